"""Write `recipes/` from the package; `make recipes`. A test keeps them fresh."""

from pathlib import Path

from dragoman.launch.recipes import recipes

FOLDER = Path(__file__).parents[1] / "recipes"


def main() -> None:
    """Write every file."""
    for name, data in recipes().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
