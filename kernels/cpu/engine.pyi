from typing import Any

def __getattr__(name: str) -> Any: ...  # what it takes is checked where it is called, at run time
