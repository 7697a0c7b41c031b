"""Data sets of whole images with classes, for probes, fine-tuning and few-shot learning."""

from .adapted import DTD, SUN397, Caltech101, Flowers102, Food101, OxfordIIITPet, Places205, StanfordCars
from .cifar import CIFAR10, CIFAR100
from .coop import CoOpSplit
from .imagenet_tests import ImageNetTestSet
from .objectnet import ObjectNet
from .places365 import Places365

__all__ = [
    'CIFAR10',
    'CIFAR100',
    'DTD',
    'SUN397',
    'Caltech101',
    'CoOpSplit',
    'Flowers102',
    'Food101',
    'ImageNetTestSet',
    'ObjectNet',
    'OxfordIIITPet',
    'Places205',
    'Places365',
    'StanfordCars',
]
