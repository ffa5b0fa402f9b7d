// docs/openapi.json as a judge and as a source of mischief: checks answers against their schemas, and makes wrong requests from them.
//
//   answer → status documented? → body fits its schema? → list of faults        schema → values at and beyond every bound it states
import { readFile } from 'node:fs/promises';

const TYPES = {
  object: (value) => value !== null && typeof value === 'object' && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === 'string',
  integer: Number.isSafeInteger,
  number: (value) => typeof value === 'number',
  boolean: (value) => typeof value === 'boolean',
  null: (value) => value === null,
};

export class OpenApi {
  static async read() {
    const path = new URL('../../docs/openapi.json', import.meta.url);
    return new OpenApi(JSON.parse(await readFile(path, 'utf8')));
  }

  constructor(document) {
    this.document = document;
  }

  /** All operations: {method, path, operation}. */
  operations() {
    return Object.entries(this.document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })));
  }

  schema(name) {
    return this.document.components.schemas[name];
  }

  /** What is wrong with an answer to an operation; empty if nothing is. */
  faults({ operation }, { status, headers, body }) {
    const declared = operation.responses[status] ?? operation.responses[`${Math.floor(status / 100)}XX`];
    if (!declared) return [`status ${status} is not documented`];
    const mediaType = (headers.get('content-type') ?? '').split(';')[0];
    const content = declared.content?.[mediaType] ?? Object.entries(declared.content ?? {}).find(([type]) => type.startsWith(mediaType))?.[1];
    if (!content) return declared.content ? [`media type ${mediaType} is not documented`] : [];
    return mediaType.includes('json') ? this.mismatches(content.schema, body, '$') : [];
  }

  /** Where a value does not fit a schema. A property that no schema names is a mismatch as well: clients would rely on it. */
  mismatches(schema, value, at) {
    const known = new Set();
    const found = this.#check(schema, value, at, known);
    const isOpen = known.size === 0 || known.has('*');
    const extra = TYPES.object(value) && !isOpen ? Object.keys(value).filter((key) => !known.has(key)) : [];
    return [...found, ...extra.map((key) => `${at}.${key} is not documented`)];
  }

  #check(schema, value, at, known) {
    if (schema.$ref) return this.#check(this.schema(schema.$ref.split('/').at(-1)), value, at, known);
    const faults = (schema.allOf ?? []).flatMap((part) => this.#check(part, value, at, known));
    if (schema.oneOf) faults.push(...this.#oneOf(schema.oneOf, value, at, known));
    const types = [schema.type ?? []].flat();
    if (types.length && !types.some((type) => TYPES[type](value))) return [...faults, `${at} is no ${types}: ${JSON.stringify(value)}`];
    if (schema.enum && !schema.enum.includes(value)) faults.push(`${at} is not one of ${schema.enum}`);
    if (value < schema.minimum || value > schema.maximum) faults.push(`${at} is out of bounds: ${value}`);
    if (TYPES.array(value) && schema.items) {
      faults.push(...value.flatMap((item, place) => this.mismatches(schema.items, item, `${at}[${place}]`)));
    }
    if (TYPES.object(value)) faults.push(...this.#properties(schema, value, at, known));
    return faults;
  }

  #properties(schema, value, at, known) {
    if (types(schema).includes('object') && !schema.properties) known.add('*');
    const missing = (schema.required ?? []).filter((key) => !(key in value)).map((key) => `${at}.${key} is missing`);
    const wrong = Object.entries(schema.properties ?? {}).flatMap(([key, property]) => {
      known.add(key);
      return key in value ? this.mismatches(property, value[key], `${at}.${key}`) : [];
    });
    return [...missing, ...wrong];
  }

  #oneOf(choices, value, at, known) {
    const tried = choices.map((choice) => {
      const names = new Set();
      return { names, faults: this.#check(choice, value, at, names) };
    });
    const fitting = tried.filter(({ faults }) => faults.length === 0);
    if (fitting.length !== 1) return [`${at} fits ${fitting.length} of the choices: ${JSON.stringify(value)}`];
    fitting[0].names.forEach((name) => known.add(name));
    return [];
  }
}

const types = (schema) => [schema.type ?? []].flat();

/** A generator of pseudorandom numbers below 2^32 (xorshift): the same seed gives the same abuse. */
export function random(seed) {
  let state = seed >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  return { below: (limit) => next() % limit, pick: (list) => list[next() % list.length] };
}

/** Texts that no path or query parameter should choke on. */
export const NASTY = [
  '', '0', '1', '-1', '+1', '1.5', '1e3', '0x10', '00', '16777215', '16777216', '4294967295', '4294967296', '9007199254740993',
  '18446744073709551615', '18446744073709551616', '9'.repeat(400), 'NaN', 'null', 'true', ' ', '%00', '%0a', '%2e%2e%2f', "'", '"', '<x>', '{}',
  '[]', 'ä', '\u{1f600}', '%ff%fe', 'c', 'c0', 'c1', 'c18446744073709551615', 'c-1', `0x${'00'.repeat(32)}`, `0x${'ff'.repeat(32)}`, `0x${'f'.repeat(63)}`, 'mlr1', `mlr1${'q'.repeat(58)}`,
  'x'.repeat(2000),
];

/** Values that no field of a body should choke on. */
export const NASTY_JSON = [
  null, true, false, 0, -0, 1, -1, 1.5, 1e308, 2 ** 53, 2 ** 40, 2 ** 32, 2 ** 24, '', '0', '-1', '+1', '01', ' 1', '1e3', '0x1', '1.0', '\u0000', 'ä', '\u{1f600}',
  '9'.repeat(39), '9'.repeat(78), '9'.repeat(10_000), [], {}, [[]], [null], { x: '1' }, 'mlr1', 'transfer', 'withdraw',
  '21888242871839275222246405745257275088548364400416034343698204186575808495617', '340282366920938463463374607431768211456',
];
