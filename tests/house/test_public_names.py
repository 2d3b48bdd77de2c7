from pathlib import Path

import rlaif


def test_the_public_names_are_sorted_complete_and_importable():
    assert list(rlaif.__all__) == sorted(rlaif.__all__)
    assert set(rlaif.__all__) == set(rlaif._ROOMS)
    for name in rlaif.__all__:
        assert getattr(rlaif, name).__doc__, f"{name} has no docstring"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    assert not hasattr(rlaif, "nothing_of_the_kind")


def test_no_public_name_is_hidden_by_a_package_of_the_same_name():
    package = Path(rlaif.__file__).parent
    names = {path.stem for path in package.iterdir()}
    assert names & set(rlaif.__all__) == set()
