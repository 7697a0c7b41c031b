"""As convert.py --from data2vec."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='data2vec')
