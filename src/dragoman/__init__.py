"""Fine-tune NLLB-200 on machines that vanish. Lose nothing."""

__version__ = "0.1.0"
