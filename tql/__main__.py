"""`python -m tql`."""

from tql.cli import main

if __name__ == "__main__":
    main()
