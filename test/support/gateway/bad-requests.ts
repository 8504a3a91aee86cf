/**
 * Bad requests made from an OpenAPI document: every route, parameter, query and body property, each with every kind of
 * value that violates its schema. A route that is added later is covered without a change here.
 */
import type { OpenApiDocument, Operation } from '../../../gateway/openapi.ts';

type JsonSchema = Readonly<Record<string, unknown>>;

/** One request, exactly as it is sent. */
export interface BadRequest {
  readonly what: string;
  readonly method: string;
  /** Already URL-encoded. */
  readonly path: string;
  readonly contentType?: string;
  readonly body?: string;
}

/** @returns every bad request for a document; each of them breaks exactly one thing. */
export function badRequests(document: OpenApiDocument): BadRequest[] {
  return Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).flatMap(([method, operation]) =>
      ofOperation(method.toUpperCase(), path, operation, Object.keys(operations)),
    ),
  );
}

function ofOperation(method: string, path: string, operation: Operation, methods: readonly string[]): BadRequest[] {
  const name = `${method} ${path}`;
  const good = goodPath(path, operation);
  const schema = operation.requestBody?.content['application/json']?.schema;
  const goodBody =
    schema === undefined ? {} : { contentType: 'application/json', body: JSON.stringify(sample(schema)) };
  const secured = operation.security === undefined;
  return [
    ...badPaths(path, operation).map((bad) => ({ method, what: `${name}: path ${bad}`, path: bad, ...goodBody })),
    ...(secured
      ? badQueries(operation).map((query) => ({
          method,
          what: `${name}: query ${query.slice(0, 80)}`,
          path: `${good}?${query}`,
          ...goodBody,
        }))
      : []),
    ...(schema === undefined
      ? []
      : badBodies(schema).map((bad) => ({ method, path: good, ...bad, what: `${name}: ${bad.what}` }))),
    ...['DELETE', 'PUT', 'PATCH', 'OPTIONS', 'TRACE', 'GET', 'POST']
      .filter((other) => !methods.includes(other.toLowerCase()))
      .map((other) => ({ method: other, what: `${other} ${path}`, path: good })),
  ];
}

function goodPath(path: string, operation: Operation): string {
  return path.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => {
    const parameter = operation.parameters.find((candidate) => candidate.name === name);
    return encodeURIComponent(String(sample(parameter?.schema ?? {})));
  });
}

/** Texts that could be mistaken for something else: parent folders, encodings, ends of strings, names of JavaScript. */
const STRANGE_TEXTS = [
  '..',
  '../..',
  '..%2f..',
  '%2e%2e',
  'a/../b',
  '/etc/passwd',
  '\\\\host\\share',
  'a\u0000b',
  '\u0000',
  'a\nb',
  '\u007f',
  '\ufeff',
  '\u202eabc',
  '🦊',
  'ÄÖÜ',
  "a'b",
  'a"b',
  'a b',
  ' a',
  '',
  '*',
  '%',
  '$(id)',
  '`id`',
  '{}',
  '[]',
  '__proto__',
  'constructor',
  'UPPER',
  'a'.repeat(41),
  'a'.repeat(513),
  'é'.repeat(300),
  'a'.repeat(9000),
  '-1',
  '0',
  '1e308',
  'NaN',
  'Infinity',
  'null',
  'true',
  '9007199254740993',
  '1.5',
  '0x',
  '١٢',
  '1;2',
  '1,2',
];

function badPaths(path: string, operation: Operation): string[] {
  const inPath = operation.parameters.filter((parameter) => parameter.in === 'path');
  return inPath.flatMap(({ name, schema }) => {
    const put = (text: string) =>
      goodPath(path.replace(`{${name}}`, '\u0001'), operation).replace('\u0001', () => text);
    const texts = STRANGE_TEXTS.filter((text) => text !== '' && breaksText(schema, text));
    const raw = ['%00', '%ff', '%c0%ae%c0%ae', '%E0%A4%A', '%', '%zz', '..%2f..%2fetc', '%252e%252e', 'a%2fb', 'a;b'];
    return [...texts.map((text) => put(encodeURIComponent(text))), ...raw.map(put)];
  });
}

function badQueries(operation: Operation): string[] {
  const inQuery = operation.parameters.filter((parameter) => parameter.in === 'query');
  return [
    'unknown=1',
    '__proto__=1',
    ...inQuery.flatMap(({ name, schema }) => [
      ...STRANGE_TEXTS.filter((text) => breaksText(schema, text)).map((text) => `${name}=${encodeURIComponent(text)}`),
      `${name}=${String(sample(schema))}&${name}=${String(sample(schema))}`,
      `${name}[]=1`,
      `${name}=%ff%00`,
    ]),
  ];
}

/** Whether a text in a URL violates a schema. Where the schema wants a number, the text is converted first. */
function breaksText(schema: JsonSchema, text: string): boolean {
  if (schema['type'] !== 'integer') return breaks(schema, text);
  // A parameter without a value counts as 0, as in every query.
  return breaks(schema, Number(text));
}

function breaks(schema: JsonSchema, value: unknown): boolean {
  if (Array.isArray(schema['enum'])) return !schema['enum'].includes(value);
  if (typeof value === 'string') {
    const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern } = schema;
    if (value.length < Number(minLength) || value.length > Number(maxLength)) return true;
    return typeof pattern === 'string' && !new RegExp(pattern, 'u').test(value);
  }
  if (typeof value !== 'number' || schema['type'] !== 'integer') return false;
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema;
  return !Number.isSafeInteger(value) || value < Number(minimum) || value > Number(maximum);
}

interface BadBody {
  readonly what: string;
  readonly contentType: string;
  readonly body: string;
}

function badBodies(schema: JsonSchema): BadBody[] {
  const good = JSON.stringify(sample(schema));
  const json = (what: string, body: string): BadBody => ({ what, contentType: 'application/json', body });
  const deep = (n: number) => `${'['.repeat(n)}${']'.repeat(n)}`;
  return [
    ...valuesAgainst(schema, []).map(({ at, text }) =>
      json(`body ${at.join('.')} = ${text.slice(0, 60)}`, withValue(schema, at, text)),
    ),
    ...['', '{', '[1,', '{"a":1,}', 'nul', '\u0000', '{"a":NaN}', "{'a':1}", '\ufeff\ufeff{}', '{"\ud800":1}'].map(
      (text) => json(`body text ${JSON.stringify(text)}`, text === '' ? ' ' : text),
    ),
    json('a nest of 10000', deep(10_000)),
    json('an object nest', `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`),
    json('a body of 5 MB', JSON.stringify({ x: 'a'.repeat(5_000_000) })),
    json('a number without end', `{"x":${'9'.repeat(100_000)}}`),
    json('a key of the language', good.replace('{', '{"__proto__":{"x":1},')),
    json('a constructor', good.replace('{', '{"constructor":{"prototype":{}},')),
    { what: 'text/plain', contentType: 'text/plain', body: good },
    { what: 'a form', contentType: 'application/x-www-form-urlencoded', body: 'servicePath=a' },
    { what: 'another charset', contentType: 'application/json; charset=utf-16', body: good },
    { what: 'several types', contentType: 'application/json, text/plain', body: good },
    { what: 'a type that is none', contentType: ';;;', body: good },
  ];
}

interface Wrong {
  readonly at: readonly string[];
  /** JSON text, because some of its numbers cannot be written by JSON.stringify. */
  readonly text: string;
}

const OTHER_TYPES: Readonly<Record<string, readonly string[]>> = {
  string: ['1', '-0', 'true', '{}', '[]', 'null', '["a"]', '1e999'],
  integer: ['"1"', '1.5', '-1', '1e400', '99999999999999999999', 'null', 'true', '{}', '[1]', '""'],
  object: ['"a"', '1', 'true', 'null', '[]', '[{}]'],
  boolean: ['"true"', '1', 'null', '{}'],
  array: ['"a"', '1', 'null', '{}'],
};

/** Every value that violates a schema at some place, with that place. */
function valuesAgainst(schema: JsonSchema, at: readonly string[]): Wrong[] {
  const type = String(schema['type']);
  const here = [...(OTHER_TYPES[type] ?? [])];
  if (type === 'string') {
    const texts = [...STRANGE_TEXTS, 'a'.repeat(Number(schema['maxLength'] ?? 0) + 1)];
    here.push(...texts.filter((text) => breaks(schema, text)).map((text) => JSON.stringify(text)));
  }
  if (type === 'integer') {
    const numbers = [Number(schema['minimum'] ?? 0) - 1, Number(schema['maximum'] ?? 0) + 1, 2 ** 53];
    here.push(...numbers.filter((value) => breaks(schema, value)).map(String));
  }
  const wrong = here.map((text) => ({ at, text }));
  return type === 'object' ? [...wrong, ...insideObject(schema, at)] : wrong;
}

function insideObject(schema: JsonSchema, at: readonly string[]): Wrong[] {
  const properties = Object.entries(schemasIn(schema['properties']));
  const wrong = properties.flatMap(([name, inner]) => valuesAgainst(inner, [...at, name]));
  const extra = schema['additionalProperties'];
  if (extra === false) {
    for (const name of ['unknown', 'toString', '', 'a'.repeat(5000)]) wrong.push({ at: [...at, name], text: '1' });
  }
  if (isSchema(extra)) wrong.push(...valuesAgainst(extra, [...at, 'NAME']));
  if (isSchema(schema['propertyNames'])) {
    const names = schema['propertyNames'];
    for (const name of STRANGE_TEXTS.filter((text) => breaks(names, text)))
      wrong.push({ at: [...at, name], text: '""' });
  }
  return wrong;
}

/** @returns the valid body with one value replaced; objects on the path to it are created where they are missing. */
function withValue(schema: JsonSchema, at: readonly string[], text: string): string {
  if (at.length === 0) return text;
  const [name = '', ...rest] = at;
  const good = sample(schema);
  const fields = Object.entries(Object(good)).filter(([field]) => field !== name);
  const inner = schemasIn(schema['properties'])[name] ?? {};
  const all = [...fields.map(([field, value]) => [field, JSON.stringify(value)]), [name, withValue(inner, rest, text)]];
  return `{${all.map(([field, value]) => `${JSON.stringify(field)}:${value}`).join(',')}}`;
}

const CANDIDATES = [
  'a',
  'node',
  'services/hello',
  '/',
  'eyJ9',
  'f'.repeat(64),
  `sha256:${'f'.repeat(64)}`,
  '2026-01-01T00:00:00Z',
];

/** @returns a valid value with the required parts only. @throws if no candidate fits a pattern */
function sample(schema: JsonSchema): unknown {
  if (schema['example'] !== undefined) return schema['example'];
  if (schema['const'] !== undefined) return schema['const'];
  if (Array.isArray(schema['enum'])) return schema['enum'][0];
  if (schema['type'] === 'integer' || schema['type'] === 'number') return schema['minimum'] ?? 1;
  if (schema['type'] === 'boolean') return false;
  if (schema['type'] === 'array') return [];
  if (schema['type'] === 'object') {
    const required = Array.isArray(schema['required']) ? schema['required'].map(String) : [];
    const properties = schemasIn(schema['properties']);
    return Object.fromEntries(required.map((name) => [name, sample(properties[name] ?? {})]));
  }
  const found = CANDIDATES.find((text) => !breaks(schema, text));
  if (found === undefined) throw new Error(`give this schema an \`example\` in contracts/: ${JSON.stringify(schema)}`);
  return found;
}

function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function schemasIn(value: unknown): Readonly<Record<string, JsonSchema>> {
  return isSchema(value)
    ? Object.fromEntries(Object.entries(value).filter((entry): entry is [string, JsonSchema] => isSchema(entry[1])))
    : {};
}
