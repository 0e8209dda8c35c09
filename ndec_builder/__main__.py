"""`python -m ndec_builder` is `ndec`."""

if __name__ == "__main__":  # worker processes load this module again, and need no command line
    from ndec_builder.cli import main

    main()
