"""Training the rows of new tokens beside adapters, while every other row stays frozen.

LoRA leaves the embedding alone, but a new language's rows have to be learned. They are the
last ones, so a parameter may be a view of them: what the optimizer does to it happens to the
embedding, and every forward pass and every save sees it there. The gradient comes with that
of the whole embedding; the part of these rows is kept, the rest is thrown away.

Shape letters: V rows of the embedding as the model holds it, N of them new, D width.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

NAME = "lora_new_rows"
"""Of the parameter, beside the embedding; adapters are known by the beginning of their names."""


class NewRows:
    """The last rows of an embedding, trained by themselves."""

    def __init__(self, model: "M2M100ForConditionalGeneration", num_rows: int) -> None:
        """Let the last `num_rows` rows be trained.

        Args:
            model: On its device, with the embedding that it keeps: after adapters and active vocabulary.
            num_rows: At least one.
        """
        shared: Any = model.model.shared
        self._embedding: nn.Parameter = shared.weight
        # The head and the look-up give a gradient only to an embedding that wants one.
        self._embedding.requires_grad_(True)
        self.rows_ND = nn.Parameter(self._embedding.detach()[-num_rows:])
        shared.register_parameter(NAME, self.rows_ND)

    def take_gradient(self) -> None:
        """Move the gradient of these rows to their parameter; that of the embedding is dropped."""
        gradient: Tensor | None = self._embedding.grad
        if gradient is not None:
            self.rows_ND.grad = gradient[-len(self.rows_ND) :].clone()
        self._embedding.grad = None
