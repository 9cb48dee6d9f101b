"""Amounts in words."""


def size(count: int) -> str:
    """`4.1 GB`, in powers of 1000 as disks are sold."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def counted(number: int, what: str) -> str:
    """`1 thread`, `8 threads`."""
    return f"1 {what}" if number == 1 else f"{number} {what}s"
