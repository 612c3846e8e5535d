"""stub"""


def public_host(host: str) -> str:
    """stub"""
    return host
