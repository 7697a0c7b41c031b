"""As convert.py --from latent_mim."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='latent_mim')
