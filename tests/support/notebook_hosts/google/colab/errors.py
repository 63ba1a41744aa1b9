class Error(Exception):
    """As Colab's: what all its errors derive from, but for the one about access."""
