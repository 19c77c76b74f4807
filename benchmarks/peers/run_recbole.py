"""RecBole: EASE, item neighbours and SASRec, without its own evaluation."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader
from recbole.utils import get_model, get_trainer, init_seed
from torch import from_numpy

from benchmarks.peers.exchange import LONGEST, Lists, Task, answer


def ease(task: Task) -> Lists:
    """Invert the Gram matrix of items."""
    return _linear(task, "EASE", {"reg_weight": task.settings["ridge"]})


def knn(task: Task) -> Lists:
    """Cosine neighbours."""
    return _linear(task, "ItemKNN", {"k": task.settings["K"], "shrink": 0.0})


def sasrec(task: Task) -> Lists:
    """Train one epoch by the full softmax; every prefix of a history is a sample of its own."""
    told, split = task.settings, {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": None}
    drop, size = told["dropout_rate"], told["n_factors"]
    config, dataset = _dataset(task, "SASRec", {
        "n_layers": told["n_blocks"], "n_heads": told["n_heads"], "hidden_size": size,
        "inner_size": size, "hidden_dropout_prob": drop, "attn_dropout_prob": drop,
        "MAX_ITEM_LIST_LENGTH": told["session_max_len"], "train_batch_size": told["batch_size"],
        "learning_rate": told["lr"], "epochs": 1, "train_neg_sample_args": None,
        "eval_args": {**split, "mode": "full"},
    })  # fmt: skip
    with task.phase("prepare"):
        train = dataset.build()[0]
        batches = get_dataloader(config, "train")(config, train, None, shuffle=True)
    model = get_model("SASRec")(config, train)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    with task.phase("fit"):
        trainer.fit(batches, saved=False, show_progress=False)
    return np.full((len(task.people), LONGEST), -1)  # too few people are fitted to be judged


def _linear(task: Task, name: str, options: dict[str, Any]) -> Lists:
    config, dataset = _dataset(task, name, options)
    with task.phase("fit"):
        dataset._change_feat_format()  # what its own splitting begins with
        model = get_model(name)(config, dataset)
    items = dataset.id2token("item_id", np.arange(1, dataset.item_num)).astype(np.int64)

    def scores(block: Lists) -> NDArray[Any]:
        users = dataset.token2id("user_id", block.astype(str))
        found = model.full_sort_predict(Interaction({"user_id": from_numpy(users)}))
        whole = np.full((len(block), task.n_items), -np.inf, dtype=np.float32)
        whole[:, items] = found.numpy().reshape(len(block), -1)[:, 1:]  # 0 is padding
        return whole

    with task.phase("recommend"):
        return task.best(scores)


def _dataset(task: Task, name: str, options: dict[str, Any]) -> tuple[Config, Any]:
    """Write its own file, which is not timed, and read it."""
    frame = pd.DataFrame({"user_id:token": task.owners, "item_id:token": task.values})
    frame["timestamp:float"] = np.arange(len(frame))
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    with TemporaryDirectory() as folder:
        (Path(folder) / "set").mkdir()
        frame.to_csv(Path(folder) / "set" / "set.inter", sep="\t", index=False)
        common = {"data_path": folder, "checkpoint_dir": folder, "load_col": columns}
        quiet = {"use_gpu": False, "state": "ERROR"}
        config = Config(model=name, dataset="set", config_dict=common | quiet | options)
        init_seed(0, reproducibility=True)
        return config, create_dataset(config)


if __name__ == "__main__":
    answer("recbole", {"ease": ease, "knn": knn, "sasrec": sasrec})
