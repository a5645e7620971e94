"""The command completion: scripts by which a shell completes commands, options and choices without starting Python."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer

Shell = Literal["bash", "zsh", "fish"]


class _Option(NamedTuple):
    """An option: its name with the dashes, what it is for, and the values there are, if they are few."""

    name: str
    what: str
    choices: Sequence[str]


class _Command(NamedTuple):
    """A command: its words, what it does, its options, and the values of its arguments, if they are few."""

    name: str
    what: str
    options: Sequence[_Option]
    values: Sequence[str] = ()


def completion(context: typer.Context, shell: Annotated[Shell, typer.Argument(help="For which shell.")]) -> None:
    """Print the completion script of a shell, for example: source <(klinenode completion bash)."""
    commands = list(_commands(context.find_root().command))
    sys.stdout.write({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands))


def _commands(group: Any, prefix: str = "") -> Iterator[_Command]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield _Command(f"{prefix}{name}", _first(command.help), ())
            yield from _commands(command, f"{prefix}{name} ")
        else:
            values = [
                choice for each in command.params if each.param_type_name == "argument" for choice in _choices(each)
            ]
            yield _Command(f"{prefix}{name}", _first(command.help), tuple(_options(command)), values)


def _options(command: Any) -> Iterator[_Option]:
    for option in command.params:
        if option.param_type_name == "option":
            yield _Option(option.opts[0], _first(option.help), _choices(option))


def _choices(parameter: Any) -> tuple[str, ...]:
    """The values of a parameter that is a Literal; none of others."""
    kind = parameter.type_descriptor.annotation
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def _first(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


def _below(commands: Sequence[_Command], parent: str) -> list[str]:
    """The last words of the commands one level below `parent`; of the top for an empty one."""
    depth = len(parent.split())
    names = (command.name.split() for command in commands)
    return [words[-1] for words in names if len(words) == depth + 1 and words[:depth] == parent.split()]


def _groups(commands: Sequence[_Command]) -> str:
    """The commands that have others below them, as a pattern of bash and zsh."""
    return "|".join(command.name for command in commands if _below(commands, command.name))


def _bash(commands: Sequence[_Command]) -> str:
    values = [
        f"        {shlex.quote(f'{command.name}:{option.name}')}) words={shlex.quote(' '.join(option.choices))} ;;"
        for command in commands
        for option in command.options
        if option.choices
    ]
    words = [
        f"        {shlex.quote(command.name)}) words={shlex.quote(' '.join(_words(commands, command)))} ;;"
        for command in commands
    ]
    top = shlex.quote(" ".join([*_below(commands, ""), "--help", "--version"]))
    lines = [
        "# bash completion of klinenode: save it as ~/.local/share/bash-completion/completions/klinenode",
        "_klinenode() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="" words=""',
        '    ((COMP_CWORD > 1)) && command="${COMP_WORDS[1]}"',
        '    case "$command" in',
        f'        {_groups(commands)}) ((COMP_CWORD > 2)) && command="$command ${{COMP_WORDS[2]}}" ;;',
        "    esac",
        '    case "$command:$previous" in',
        *values,
        "    esac",
        '    [[ -n "$words" ]] || case "$command" in',
        f'        "") words={top} ;;',
        *words,
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _klinenode klinenode",
    ]
    return "\n".join(lines) + "\n"


def _words(commands: Sequence[_Command], command: _Command) -> list[str]:
    """What may follow a command: the commands below it, or its options."""
    return _below(commands, command.name) or [*command.values, *(option.name for option in command.options), "--help"]


def _zsh(commands: Sequence[_Command]) -> str:
    lines = [
        "#compdef klinenode",
        "_klinenode() {",
        '    local command="${words[2]}" previous="${words[CURRENT-1]}"',
        "    local -a found",
        "    if ((CURRENT == 2)); then",
        f"        found=({_described(commands)})",
        "        _describe command found",
        "        return",
        "    fi",
        f'    [[ "$command" == ({_groups(commands)}) ]] && ((CURRENT > 3)) && command="$command ${{words[3]}}"',
    ]
    lines += [
        f'    [[ "$command:$previous" == {shlex.quote(f"{command.name}:{option.name}")} ]] && '
        f"{{ compadd -- {shlex.join(option.choices)}; return; }}"
        for command in commands
        for option in command.options
        if option.choices
    ]
    lines.append('    case "$command" in')
    lines += [
        f"        {shlex.quote(command.name)}) compadd -- {shlex.join(_words(commands, command))}; _files ;;"
        for command in commands
    ]
    lines += [
        "    esac",
        "}",
        'if [[ "${funcstack[1]}" == _klinenode ]]; then _klinenode "$@"; else compdef _klinenode klinenode; fi',
    ]
    return "\n".join(lines) + "\n"


def _described(commands: Sequence[_Command]) -> str:
    """The commands of the top as `_describe` takes them: name and text, parted by the first colon."""
    return " ".join(shlex.quote(f"{each.name}:{each.what}") for each in commands if " " not in each.name)


def _fish(commands: Sequence[_Command]) -> str:
    lines = ["# fish completion of klinenode: save it as ~/.config/fish/completions/klinenode.fish"]
    for command in commands:
        *parents, name = command.name.split()
        when = f"'__fish_seen_subcommand_from {parents[0]}'" if parents else "__fish_use_subcommand"
        lines.append(f"complete -c klinenode -n {when} -f -a {name} -d {_fish_quoted(command.what)}")
        seen = f"complete -c klinenode -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{seen} -f -a {value}" for value in command.values]
        for option in command.options:
            values = f" -x -a {_fish_quoted(' '.join(option.choices))}" if option.choices else ""
            lines.append(f"{seen} -l {option.name.lstrip('-')}{values} -d {_fish_quoted(option.what)}")
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
