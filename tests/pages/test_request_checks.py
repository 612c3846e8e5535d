"""What a server of a local page may listen on."""

import pytest

from mlx_ragtune.errors import RecipeError, ToolError
from mlx_ragtune.pages.request_checks import listen


@pytest.mark.parametrize("host", ["a" * 70, "x..y"])
def test_what_cannot_be_a_host_name_is_one_message(host: str) -> None:
    with pytest.raises(RecipeError, match="is not a host name") as refused:
        listen(host, 0)
    assert refused.value.where == "--host"


def test_an_address_of_another_machine_is_one_message() -> None:
    with pytest.raises(ToolError, match=r"cannot listen on '192\.0\.2\.1'") as refused:
        listen("192.0.2.1", 0)
    assert refused.value.where == "--host"
    assert "port" not in refused.value.fix
