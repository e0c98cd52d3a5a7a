import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from langmerge.models import load_model, load_tokenizer
from langmerge.provenance import InputError, canonical, result, sha256_file
from langmerge.training.import_model import build, check_weights, copy_model


@pytest.fixture
def local(inputs, tmp_path):
    """A plain local copy of the tiny model."""
    folder = tmp_path / "local"
    folder.mkdir()
    for file in inputs["model"].iterdir():
        if file.name not in ("manifest.json", "cost.json"):
            shutil.copyfile(file, folder / file.name)
    return folder


@pytest.fixture
def sharded(local, tmp_path):
    """The same in three shards."""
    load_model(local).save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(local / name, tmp_path / "sharded" / name)
    return tmp_path / "sharded"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(sharded, tmp_path):
    """The same in the layout of the Hub's cache, blobs and links; beside it what must not be imported."""
    repository = tmp_path / "hub" / "models--org--tiny"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (sharded / "pytorch_model.bin").write_bytes(b"pickle")
    (sharded / "modeling_evil.py").write_text("raise SystemExit")
    for file in sharded.iterdir():
        blob = repository / "blobs" / sha256_file(file)
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


def imported(spec, out):
    with result(out, spec, "", "") as job:
        build(spec, job)
    return out


def weights(folder):
    return load_model(folder).state_dict()


@pytest.mark.parametrize("form", ["local", "sharded", "cache"])
def test_the_imported_model_is_the_source(form, local, request, tmp_path):
    out = imported({"source": str(request.getfixturevalue(form)), "revision": None}, tmp_path / "out")
    torch.testing.assert_close(weights(out), weights(local), rtol=0, atol=0)
    text = "<en>bada nolo"
    assert load_tokenizer(out)(text)["input_ids"] == load_tokenizer(local)(text)["input_ids"]
    assert not [file for file in out.iterdir() if file.suffix in (".py", ".bin") or file.is_symlink()]


def test_sources_are_not_written_to(local, tmp_path):
    before = sha256_file(local / "model.safetensors")
    out = imported({"source": str(local)}, tmp_path / "out")
    shutil.rmtree(out)
    assert sha256_file(local / "model.safetensors") == before


def offline(spec, cache, out):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "langmerge.training.import_model", "--spec", canonical(spec), "--out", str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cache)


def test_hub_ids_come_from_the_cache_when_offline(cache, local, tmp_path):
    for revision in (None, COMMIT):
        done = offline({"source": "org/tiny", "revision": revision}, cache, tmp_path / str(revision))
        assert done.returncode == 0, done.stderr
        torch.testing.assert_close(weights(tmp_path / str(revision)), weights(local), rtol=0, atol=0)
    done = offline({"source": "org/absent"}, cache, tmp_path / "absent")
    assert done.returncode == 1
    assert "org/absent is not in the cache and the Hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_revisions_of_a_cache_folder(cache, tmp_path):
    assert (imported({"source": str(cache), "revision": COMMIT}, tmp_path / "out") / "config.json").is_file()
    with pytest.raises(InputError, match=f"revision 'v2' is not in this cache.*{COMMIT}"):
        imported({"source": str(cache), "revision": "v2"}, tmp_path / "other")


@pytest.mark.parametrize("form", ["local", "sharded"])
def test_dtype_converts_weights_and_says_so(form, local, request, tmp_path):
    out = imported({"source": str(request.getfixturevalue(form)), "dtype": "bfloat16"}, tmp_path / "out")
    for file in out.glob("*.safetensors"):
        assert all(value.dtype == torch.bfloat16 for value in load_file(file).values())
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    expected = {name: value.to(torch.bfloat16).float() for name, value in weights(local).items()}
    torch.testing.assert_close(weights(out), expected, rtol=0, atol=0)
    check_weights(out)


def test_cut_off_weights_are_an_error(local, tmp_path):
    file = local / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-100], whole[:50], b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
            copy_model(local, tmp_path)


def test_shards_that_do_not_fit_the_index_are_an_error(sharded, tmp_path):
    shard = sorted(sharded.glob("*.safetensors"))[1]
    tensors = load_file(shard)
    gone = sorted(tensors)[0]
    save_file({name: value for name, value in tensors.items() if name != gone}, shard)
    with pytest.raises(InputError, match=f"{gone} in {shard.name}"):
        copy_model(sharded, tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name}: file not found"):
        copy_model(sharded, tmp_path)


def test_pickles_and_remote_code_are_refused(local, tmp_path):
    config = json.loads((local / "config.json").read_text())
    (local / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(InputError, match="auto_map"):
        copy_model(local, tmp_path)
    (local / "model.safetensors").rename(local / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickle"):
        copy_model(local, tmp_path)


def test_missing_sources_are_named(local, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        imported({"source": str(tmp_path / "nowhere")}, tmp_path / "a")
    (local / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: file not found"):
        imported({"source": str(local)}, tmp_path / "b")
    with pytest.raises(InputError, match="dtype"):
        imported({"source": str(local), "dtype": "int8"}, tmp_path / "c")
