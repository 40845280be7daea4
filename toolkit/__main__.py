"""`python -m toolkit`: the command line, for torchrun and for environments without scripts."""

from toolkit.cli import main

if __name__ == "__main__":
    main()
