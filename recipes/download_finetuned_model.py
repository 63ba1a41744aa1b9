"""Download a fine-tuned model, and try it on sentences that it has never seen.

    python download_finetuned_model.py --model_name YOUR_USERNAME/fine-tuned-nllb-600M --test

Needs `pip install dragoman-VERSION-py3-none-any.whl`, the wheel that comes with each release, and for a private
repository a token in HF_TOKEN. All options: --help
"""

import sys

from dragoman.cli import guide

if __name__ == "__main__":
    sys.exit(guide.download(sys.argv[1:]))
