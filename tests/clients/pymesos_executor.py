"""An executor by pymesos: each task is running until it is killed, and finished at once if its name is `quick`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pymesos import Executor, MesosExecutorDriver, encode_data


class Minimal(Executor):
    """What pymesos calls, by its names."""

    def launchTask(self, driver: Any, task: Any) -> None:  # noqa: N802
        self.tell(driver, task["task_id"], "TASK_RUNNING")
        if task["task_id"]["value"] == "quick":
            self.tell(driver, task["task_id"], "TASK_FINISHED")

    def killTask(self, driver: Any, task_id: Any) -> None:  # noqa: N802
        self.tell(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver: Any, message: Any) -> None:  # noqa: N802
        driver.sendFrameworkMessage(encode_data(b"heard"))

    def tell(self, driver: Any, task_id: Any, state: str) -> None:
        driver.sendStatusUpdate({"task_id": task_id, "state": state})


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    sys.exit(MesosExecutorDriver(Minimal()).run())
