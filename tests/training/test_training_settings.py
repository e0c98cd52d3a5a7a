import pytest

from langmerge.provenance import InputError
from langmerge.training.settings import Settings, check


def test_defaults_are_filled_in(recipe):
    settings = check(Settings, recipe, "train")
    assert settings.betas == (0.9, 0.98)
    assert settings.data[0].label == "en-es"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rat": 1}, ["learning_rat"]),
        ({"learning_rate": -1.0}, ["learning_rate", "greater than 0"]),
        ({"steps": 0}, ["steps"]),
        ({"schedule": "cosin"}, ["schedule", "cosine"]),
        ({"snapshots": [13]}, ["snapshots", "13", "12"]),
        ({"data": []}, ["data"]),
        ({"data": [{"task": "translate", "source": "en"}]}, ["data.0", "target"]),
        ({"data": [{"task": "text", "source": "en"}]}, ["data.0", "language"]),
        ({"data": [{"task": "examples", "language": "en"}]}, ["data.0", "name"]),
        ({"data": [{"task": "text", "language": "en", "name": "sentiment"}]}, ["data.0", "examples"]),
        ({"lora": {"rank": 0}}, ["lora.rank", "greater than or equal to 1"]),
        ({"lora": {"rank": 2, "target": ["q_proj"]}}, ["lora.target"]),
        ({"data": [{"task": "text", "language": "en", "portion": [0.5, 0.5]}]}, ["data.0", "portion"]),
        ({"data": [{"task": "text", "language": "en", "weight": 0}]}, ["weight above 0"]),
        ({"prompt": {"template": "{sorce}"}}, ["prompt", "{source}"]),
        ({"prompt": {"template": "{source}{lang}"}}, ["prompt", "lang", "target_code"]),
        ({"text_tag": "<{lang}>"}, ["text_tag", "lang", "{code}"]),
    ],
)
def test_wrong_keys_are_named(recipe, change, words):
    with pytest.raises(InputError) as error:
        check(Settings, {**recipe, **change}, "train")
    assert all(word in str(error.value) for word in words)
