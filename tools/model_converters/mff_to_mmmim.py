"""As convert.py --from mff."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='mff')
