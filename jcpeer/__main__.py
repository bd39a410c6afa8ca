"""`python -m jcpeer`: the same as the command `jcpeer`."""

from jcpeer.cli.main import main

if __name__ == "__main__":
    main()
