"""Train NLLB-200 in a Space, on Colab or anywhere, with checkpoints on the Hub.

    python train_nllb_hf_spaces.py --language_pairs en-fr en-de --max_samples 20000 --epochs 1
    python train_nllb_hf_spaces.py --resume_from_checkpoint YOUR_USERNAME/fine-tuned-nllb-600M

Needs `pip install dragoman-VERSION-py3-none-any.whl`, the wheel that comes with each release, and a token that may
write, in HF_TOKEN. All options: --help
"""

import sys

from dragoman.cli import guide

if __name__ == "__main__":
    sys.exit(guide.train(sys.argv[1:]))
