"""The rooms' SQL statements, read from the same files and by the same tool as the server's, for pgbench and the peer."""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONSTANT = re.compile(r'inline constexpr db::Statement \w+\{"([^"]+)", "([^"]*)", R"HZ\((.*?)\)HZ"\};', re.DOTALL)


class Statement:
    def __init__(self, name: str, parameters: list[str], text: str):
        self.name, self.parameters, self.text = name, parameters, text

    def bound(self, values: dict[str, str]) -> str:
        """The text with each parameter replaced: by a pgbench variable (`:latitude`) or by a constant's SQL."""
        missing = [name for name in self.parameters if name not in values]
        if missing:
            raise KeyError(f"{self.name} takes {', '.join(missing)} too: bench/run.py has to say what to give it")
        return re.sub(r"\$(\d+)", lambda use: values[self.parameters[int(use[1]) - 1]], self.text)


def read(room: str) -> dict[str, Statement]:
    with tempfile.TemporaryDirectory() as folder:
        header = pathlib.Path(folder) / "statements.hpp"
        subprocess.run([sys.executable, str(ROOT / "tools" / "embed_sql.py"),
                        str(ROOT / "src" / "rooms" / room / f"{room}.sql"), str(header)], check=True)
        return {name: Statement(name, names.split(",") if names else [], text)
                for name, names, text in CONSTANT.findall(header.read_text())}
