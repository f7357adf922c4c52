"""What each benchmark measures, and what its command takes beside --json."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

MEASURES = {
    "rle": "the brush codec against label-studio-sdk's, on the same masks in the same process",
    "export": "COCO and PNG export against label-studio-sdk's converter, each in its process",
    "sync": "pulls from Label Studio: memory of a first one, cost of ten changes",
    "select": "scoring and choosing against bare forward passes and naive definitions",
    "infer": "whole-image prediction against bare forward passes and MONAI's sliding windows",
    "learn": "IoU after a dozen masks against a plain U-Net trained for the same time",
    "transfer": "what augmentations are worth from a clean source to a noisy target",
    "instances": "touching nuclei found by the watershed against connected components",
    "byol": "trainings on few labelled tiles, from random weights and after BYOL",
    "images": "matching masks, adding images, and the memory to decode each type",
    "glands": "the recipe for stained tissue: BYOL and suggestive batches, with and without",
}


def quick(command: ArgumentParser) -> None:
    """A small run, to see that it works."""
    command.add_argument("--quick", action="store_true", help="less of it")


def out(command: ArgumentParser) -> None:
    """Where pictures go."""
    command.add_argument("--out", type=Path, help="folder for a picture")


def learn(command: ArgumentParser) -> None:
    """Cases, seeds, and data of one's own."""
    command.add_argument("--case", nargs="+", default=(), help="only cases whose names hold these")
    command.add_argument("--seeds", type=int, default=3, help="how many seeds (3)")
    command.add_argument("--out", type=Path, help="folder of learn.csv, a chart and pictures")
    command.add_argument("--recipe", type=Path, help="a recipe instead of the default one")
    command.add_argument("--images", type=Path, help="folder of images to learn from instead")
    command.add_argument("--masks", type=Path, help="folder of their masks")
    command.add_argument("--label", nargs="+", default=(), help="the labels in these masks")
    command.add_argument("--values", help="what their greys mean, such as 64-191=1,192-255=2")
    command.add_argument("--tile", type=int, help="side of the tiles to learn from, px")


def pairs(seeds: int) -> Callable[[ArgumentParser], None]:
    """Give the options of what is trained in pairs, by default with so many seeds."""

    def add(command: ArgumentParser) -> None:
        command.add_argument("--seeds", type=int, default=seeds, help="paired trainings")
        command.add_argument("--pretraining-steps", type=int, default=200, help="of BYOL")
        command.add_argument("--steps", type=int, default=100, help="of each training")

    return add


def byol(command: ArgumentParser) -> None:
    """What is learned, and where the curves go."""
    encoders = "pretrained ones that the seeds take in turn [default: one for each seed]"
    command.add_argument("--encoders", type=int, help=encoders)
    tasks = ("membranes", "mitochondria")
    command.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, help="what is learned")
    command.add_argument("--table", type=Path, help="write the curves there as CSV")
    command.add_argument("--figure", type=Path, help="draw the curves there as PNG")


OPTIONS: dict[str, tuple[Callable[[ArgumentParser], None], ...]] = {
    "export": (quick,),
    "sync": (quick,),
    "select": (quick,),
    "infer": (quick,),
    "learn": (quick, learn),
    "transfer": (quick, out),
    "instances": (quick, out),
    "byol": (pairs(5), byol),
    "images": (quick,),
    "glands": (pairs(3),),
}
