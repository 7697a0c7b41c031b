"""Convert weights of other programs to mmmim's format; the file itself tells what it is."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main()
