"""A stand-in for what Colab puts into its notebooks; on PYTHONPATH it takes the real one's place."""
