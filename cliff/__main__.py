"""``python -m cliff`` is the command ``cliff``."""

from cliff.cli import main

if __name__ == "__main__":
    main()
