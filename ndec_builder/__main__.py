"""`python -m ndec_builder` is `ndec`."""

from ndec_builder.cli import main

if __name__ == "__main__":
    main()
