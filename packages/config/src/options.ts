interface OptionBase {
  /** Environment variable. */
  readonly env: string;
  /** Long flag without the dashes, for example `grpc-port`. */
  readonly flag: string;
  /** One sentence for `--help` and the docs. */
  readonly description: string;
  /** Never shown in messages. */
  readonly secret?: boolean;
}

export interface IntegerOption extends OptionBase {
  readonly kind: 'integer';
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly unit: string;
}
/** Accepts `500ms`, `30s`, `5m`, `2h`, or a bare number of ms; kept in ms. */
export interface DurationOption extends OptionBase {
  readonly kind: 'duration';
  readonly default: number;
  readonly min: number;
  readonly max: number;
}
export interface StringOption extends OptionBase {
  readonly kind: 'string';
  /** Absent: the option must be given. */
  readonly default?: string;
}
export interface EnumOption extends OptionBase {
  readonly kind: 'enum';
  readonly values: readonly string[];
  readonly default: string;
}
export interface BooleanOption extends OptionBase {
  readonly kind: 'boolean';
  readonly default: boolean;
}
export type Option = IntegerOption | DurationOption | StringOption | EnumOption | BooleanOption;
export type Options = Readonly<Record<string, Option>>;

type ValueOf<O> = O extends { kind: 'integer' | 'duration' }
  ? number
  : O extends { kind: 'boolean' }
    ? boolean
    : O extends { kind: 'enum'; values: readonly (infer V)[] }
      ? V
      : string;

/** The validated object that {@link Options} describe. */
export type ConfigOf<O extends Options> = { readonly [K in keyof O]: ValueOf<O[K]> };

/** Defines the options of a process; types, `--help`, docs and validation come from it. */
export function defineOptions<const O extends Options>(options: O): O {
  return Object.freeze(options);
}
