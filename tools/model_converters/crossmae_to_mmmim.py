"""As convert.py --from crossmae."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='crossmae')
