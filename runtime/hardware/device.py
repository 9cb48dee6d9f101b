"""Whether a machine is one of those that a file was made for (`mkllm build --for`); pure, looks at nothing."""

from mkllm.runtime.artifact.manifest import Device
from mkllm.runtime.hardware.probe import Facts


def is_device(device: Device, facts: Facts) -> bool:
    """Of that architecture, with that many processors, and no more memory, be it by the limit of a container.

    What was set for a device would be too much or too little on another machine, which looks after itself.
    """
    memory = min(facts.memory_total, facts.memory_limit or facts.memory_total)
    return (
        device.machine in (None, facts.machine)
        and device.cores in (None, facts.cpus_online)
        and 0 < memory <= device.memory
    )
