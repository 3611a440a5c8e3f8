/** Shell completion, generated from the tree of commands. */
import { Argument, type Command, type Option } from 'commander';
import { write } from '../output/print.js';

export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description("print a shell's completion script")
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'after',
      '\nFor example: eval "$(perdure completion bash)" in ~/.bashrc or ~/.zshrc (with zsh), or perdure completion fish | source.',
    )
    .action((shell: string) => write(shell === 'fish' ? fishScript(program) : bashScript(program, shell === 'zsh')));
}

/** A command and the words that lead to it: ` run start`; empty for the program. */
interface Node {
  readonly path: string;
  readonly command: Command;
}

function nodesOf(command: Command, path = ''): Node[] {
  return [{ path, command }, ...command.commands.flatMap((child) => nodesOf(child, `${path} ${child.name()}`))];
}

/** Options of a command, and those of the program where they mean something. */
function optionsOf(program: Command, command: Command): Option[] {
  const own = command.options.filter((option) => !option.hidden);
  return command === program || command.configureHelp().showGlobalOptions === false
    ? own
    : [...own, ...program.options.filter(({ long }) => long !== '--version')];
}

function bashScript(program: Command, zsh: boolean): string {
  const nodes = nodesOf(program);
  const paths = nodes.filter(({ path }) => path !== '').map(({ path }) => `"${path}"`);
  const words = nodes.map(({ path, command }) => {
    const flags = optionsOf(program, command)
      .flatMap(({ long, short }) => [long, short])
      .filter((flag) => flag != null);
    const argumentChoices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
    const all = [...command.commands.map((child) => child.name()), ...argumentChoices, ...flags, '--help'];
    return `    "${path}") words="${all.join(' ')}" ;;`;
  });
  const choices = new Map(
    nodes
      .flatMap(({ command }) => command.options)
      .filter(({ argChoices }) => argChoices !== undefined)
      .map(({ short, long, argChoices }) => [[short, long].filter((flag) => flag != null).join('|'), argChoices]),
  );
  const values = [...choices].map(([flags, known]) => `    ${flags}) words="${known?.join(' ')}" ;;`);
  return [
    ...(zsh ? ['autoload -U +X compinit && compinit', 'autoload -U +X bashcompinit && bashcompinit'] : []),
    '_perdure() {',
    '  local path="" words="" i',
    '  for ((i = 1; i < COMP_CWORD; i++)); do',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's variable.
    '    case "$path ${COMP_WORDS[i]}" in',
    `    ${paths.join('|')}) path="$path \${COMP_WORDS[i]}" ;;`,
    '    esac',
    '  done',
    '  case "$path" in',
    ...words,
    '  esac',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's variable.
    '  case "${COMP_WORDS[COMP_CWORD - 1]}" in',
    ...values,
    '  esac',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's variable.
    '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
    '}',
    'complete -o default -F _perdure perdure',
  ].join('\n');
}

function fishScript(program: Command): string {
  const nodes = nodesOf(program);
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = nodes.flatMap(({ path, command }) => {
    const at = `complete -c perdure -n ${quoted(`__perdure_at ${quoted(path)}`)}`;
    return [
      ...command.commands.map((child) => `${at} -f -a ${child.name()} -d ${quoted(child.description())}`),
      ...command.registeredArguments.flatMap(({ argChoices }) =>
        (argChoices ?? []).map((word) => `${at} -f -a ${word}`),
      ),
      ...optionsOf(program, command).map((option) => {
        const short = option.short === undefined ? '' : ` -s ${option.short.slice(1)}`;
        const value = option.argChoices === undefined ? '' : ` -x -a ${quoted(option.argChoices.join(' '))}`;
        const takes = option.required && option.argChoices === undefined ? ' -r' : '';
        return `${at} -l ${option.long?.slice(2)}${short}${value}${takes} -d ${quoted(option.description)}`;
      }),
    ];
  });
  const paths = nodes.filter(({ path }) => path !== '').map(({ path }) => quoted(path));
  return [
    'function __perdure_at',
    '  set -l path ""',
    '  for word in (commandline -opc)[2..-1]',
    `    if contains -- "$path $word" ${paths.join(' ')}`,
    '      set path "$path $word"',
    '    end',
    '  end',
    '  test "$path" = "$argv[1]"',
    'end',
    ...lines,
  ].join('\n');
}
