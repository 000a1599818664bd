# SPDX-License-Identifier: Apache-2.0
"""The options of `config.split`, and which of them go together."""

import dataclasses
import itertools

ORDERS = ("stratified", "random", "listed", "sorted")
POOLS = ("", "train", "extra", "all")
_FIXED_ORDERS = ("listed", "sorted")
_PICKLE_SUFFIXES = (".pkl", ".pickle")
# Of each row, at most one option may differ from the value here.
_EXCLUSIVE = (
    {"num_labeled": 0, "labeled_fraction": 1.0, "labeled_step": 1},
    {"num_validation": 0, "validation_file": ""},
    {"unlabeled_pool": "", "unlabeled_file": ""},
)


@dataclasses.dataclass(frozen=True)
class Options:
    """How a data set is divided; refused if two options contradict.

    Attributes:
      seed: int, of the orders "stratified" and "random", and of the images
        that `validation_fraction` holds out.
      num_labeled: labeled images to use; 0 = all, unless one of the next two
        says otherwise.
      labeled_fraction: share of the labeled images to use, (0, 1].
      labeled_step: every n-th labeled image is used, from the first, along
        a fixed order; CPS takes every 2nd, 4th, 8th or 16th.
      labeled_order: what `num_labeled` and `labeled_fraction` take the
        beginning of. "stratified": images that show every class first, the
        rest by a hash of seed and id; smaller splits are parts of larger
        ones. "random": numpy's RandomState(seed).permutation of the list,
        as French et al. "listed": the order of the list. "sorted": by id.
        Indices in a pickle (`labeled_file`) are an order of their own.
      num_validation: labeled images of the train list to validate on; the
        data set's validation images become its test images. 0 = the
        validation list, or else `validation_fraction`.
      validation_fraction: share of the labeled images held out where there
        is no validation list, [0, 1); 0 = no validation.
      validation_seed: `num_validation` takes the last ones of numpy's
        RandomState(validation_seed).permutation of the train list; 131 is
        that of French et al. Of a pickle's order, the last ones.
      train_file: text file of the images to train on, with or without
        labels; "" = the data set's own list, or all that nothing holds out.
      labeled_file: text file of the images whose labels may be used, or the
        pickle of Mittal et al., indices along the train list; "" = all that
        have a mask.
      unlabeled_file, validation_file, test_file: text files, or "".
      unlabeled_pool: "train": the rest of the train list; "extra": its images
        without a mask, and those that are on no list; "all": both; "": the
        data set's own list, or else "train".
      unlabeled_includes_labeled: the labeled images are unlabeled ones as
        well; a list of unlabeled images is used as it is.

    Raises:
      ValueError: names the options and what to change.
    """

    seed: int
    num_labeled: int
    labeled_fraction: float
    labeled_step: int
    labeled_order: str
    num_validation: int
    validation_fraction: float
    validation_seed: int
    train_file: str
    labeled_file: str
    unlabeled_file: str
    validation_file: str
    test_file: str
    unlabeled_pool: str
    unlabeled_includes_labeled: bool

    def __post_init__(self):
        self._check_choice("labeled_order", ORDERS)
        self._check_choice("unlabeled_pool", POOLS)
        for neutral in _EXCLUSIVE:
            for pair in itertools.combinations(neutral, 2):
                self._check_exclusive(*pair, neutral)
        self._check_step()
        self._check_pickles()

    @property
    def files(self):
        """Name of the list -> path, "" where none is given."""
        ending = "_file"
        return {
            field.name[: -len(ending)]: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name.endswith(ending)
        }

    @property
    def has_pickle(self):
        """Whether the labeled images are given as indices."""
        return _is_pickle(self.labeled_file)

    def _check_choice(self, name, choices):
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(
                f"`config.split.{name}` must be one of {choices}. "
                f"Got: {value!r}."
            )

    def _check_exclusive(self, one, other, neutral):
        values = getattr(self, one), getattr(self, other)
        if values[0] != neutral[one] and values[1] != neutral[other]:
            raise ValueError(
                f"`config.split.{one}` and `config.split.{other}` exclude "
                f"each other. Received: {one}={values[0]!r}, "
                f"{other}={values[1]!r}. Fix: leave one at its default "
                f"({neutral[one]!r} or {neutral[other]!r})."
            )

    def _check_step(self):
        if self.labeled_step < 1:
            raise ValueError(
                "`config.split.labeled_step` must be 1 or more. "
                f"Got: {self.labeled_step}."
            )
        fixed = self.has_pickle or self.labeled_order in _FIXED_ORDERS
        if self.labeled_step > 1 and not fixed:
            raise ValueError(
                f"`config.split.labeled_step` is {self.labeled_step}, but "
                f"`config.split.labeled_order` is {self.labeled_order!r}. "
                "Fix: set the order to 'sorted' (CPS, VOC) or 'listed' (CPS, "
                "Cityscapes), or use `labeled_fraction`."
            )

    def _check_pickles(self):
        if self.has_pickle and self.labeled_order in ("random", "sorted"):
            raise ValueError(
                f"`config.split.labeled_file` {self.labeled_file} is an order "
                "of the train list, so `config.split.labeled_order` cannot be "
                f"{self.labeled_order!r}. Fix: leave it at its default, or "
                "leave out the file."
            )
        for name, path in self.files.items():
            if name != "labeled" and _is_pickle(path):
                raise ValueError(
                    f"`config.split.{name}_file` {path}: only `labeled_file` "
                    "may be a pickle. Fix: name a text file, one id a line."
                )


def _is_pickle(path):
    return path.lower().endswith(_PICKLE_SUFFIXES)
