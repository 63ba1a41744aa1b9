"""`python -m dragoman` and the `dragoman` command."""

from dragoman.cli.app import main

if __name__ == "__main__":
    main()
