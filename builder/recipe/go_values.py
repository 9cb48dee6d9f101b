"""What Ollama gives to a template: the fields of each value, and what they are called in a Jinja chat template."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`name` of a value's kind; `of` is that of its elements (of a list or a map)."""

    name: str
    of: "Kind | None" = None

    @property
    def has_elements(self) -> bool:
        return self.name in ("list", "map", "tools")


TEXT, NUMBER, BOOL, JSON, NONE = Kind("text"), Kind("number"), Kind("bool"), Kind("json"), Kind("nothing")
ROOT, MESSAGE, CALL, CALLED, TOOL = Kind("root"), Kind("message"), Kind("call"), Kind("called"), Kind("tool")
FUNCTION, PARAMETERS, PROPERTY = Kind("function"), Kind("parameters"), Kind("property")
TOOLS = Kind("tools", TOOL)
# What Go prints as JSON when it is printed as it is.
PRINTED_AS_JSON = frozenset({"json", "tools", "tool", "function", "parameters"})


def list_of(kind: Kind) -> Kind:
    return Kind("list", kind)


# For each kind the fields that it has: where `{}` stands for the value, the Jinja expression; and the field's kind.
FIELDS: dict[str, dict[str, tuple[str, Kind]]] = {
    "root": {
        "System": ("ns.system", TEXT),
        "Prompt": ("ns.prompt", TEXT),
        "Response": ("ns.response", TEXT),
        "Suffix": ('""', TEXT),
        "Messages": ("ns.messages", list_of(MESSAGE)),
        "Tools": ("ns.tools", TOOLS),
        "Think": ("ns.think", BOOL),
        "ThinkLevel": ('""', TEXT),
        "IsThinkSet": ("ns.think_set", BOOL),
    },
    "message": {
        "Role": ("{}.role", TEXT),
        "Content": ('({}.content or "")', TEXT),
        "Thinking": ('({}.reasoning_content or "")', TEXT),
        "ToolCalls": ("({}.tool_calls or [])", list_of(CALL)),
        "ToolName": ('({}.name or "")', TEXT),
        "ToolCallID": ('({}.tool_call_id or "")', TEXT),
    },
    "call": {"ID": ('({}.id or "")', TEXT), "Function": ("{}.function", CALLED)},
    "called": {"Name": ("{}.name", TEXT), "Arguments": ("{}.arguments", JSON)},
    "tool": {"Type": ("{}.type", TEXT), "Function": ("{}.function", FUNCTION)},
    "function": {
        "Name": ("{}.name", TEXT),
        "Description": ('({}.description or "")', TEXT),
        "Parameters": ("({}.parameters or {{}})", PARAMETERS),
    },
    "parameters": {
        "Type": ('({}.type or "")', TEXT),
        "Required": ("({}.required or [])", list_of(TEXT)),
        "Properties": ("({}.properties or {{}})", Kind("map", PROPERTY)),
    },
    "property": {
        "Type": ('({}.type or "")', TEXT),
        "Description": ('({}.description or "")', TEXT),
        "Enum": ("({}.enum or [])", list_of(JSON)),
    },
}
