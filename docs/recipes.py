"""Write `recipes/` from the package, and its wheel to `dist/`; `make recipes`. A test keeps them fresh."""

from pathlib import Path

from dragoman.launch.recipes import recipes
from dragoman.launch.wheel import wheel

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Write every file."""
    for name, data in recipes().items():
        path = ROOT / "recipes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{wheel(ROOT / 'dist').relative_to(ROOT)}: what recipes install when it lies beside them")


if __name__ == "__main__":
    main()
