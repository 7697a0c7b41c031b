"""As convert.py --from semantic_mim."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='semantic_mim')
