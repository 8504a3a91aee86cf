/** The OpenAPI 3.1 document, made from the route table. */
import { z } from 'zod';
import { PROBLEM_TYPE, problemSchema } from '../contracts/api/problem.ts';
import { PATH_PARAMETER, type Route } from '../contracts/api/routes/route.ts';
import { ROUTES } from '../contracts/api/routes/route-table.ts';
import { defined } from '../domain/defined.ts';

export interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly parameters: readonly Parameter[];
  readonly requestBody?: { readonly required: boolean; readonly content: Content };
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: Content }>>;
  readonly security?: readonly object[];
}

export interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
}

type JsonSchema = Readonly<Record<string, unknown>>;
type Content = Readonly<Record<string, { readonly schema?: JsonSchema }>>;

export interface OpenApiDocument {
  readonly openapi: '3.1.0';
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly security: readonly object[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: object;
}

const DESCRIPTION =
  'Workloads in microVMs of their own, driven by Temporal. Every error is a problem document (RFC 9457) whose `code` says what it is.';

/** @returns the document of every route in the table. Pure. */
export function openApiDocument(version: string): OpenApiDocument {
  const paths: Record<string, Record<string, Operation>> = {};
  for (const [name, route] of Object.entries<Route>(ROUTES)) {
    const path = route.path.replaceAll(PATH_PARAMETER, '{$2}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(name, route) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Kiln', version, description: DESCRIPTION },
    security: [{ bearer: [] }],
    paths,
    components: {
      schemas: { Problem: schemaOf(problemSchema, 'output') },
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
    },
  };
}

function operation(name: string, route: Route): Operation {
  return {
    operationId: name,
    tags: [route.tag],
    summary: route.summary,
    ...defined({ description: route.description }),
    parameters: [
      ...parameters('path', route.params),
      ...parameters('query', route.query),
      ...(route.ranges === true ? [RANGE] : []),
    ],
    ...(route.body === undefined ? {} : { requestBody: requestBody(route.body) }),
    ...(route.upload === undefined ? {} : { requestBody: uploadBody(route.upload) }),
    responses: responses(route),
    ...(route.open === true ? { security: [] } : {}),
  };
}

const RANGE: Parameter = {
  name: 'range',
  in: 'header',
  required: false,
  description: 'One range of bytes. A form that is not known, or several ranges, count as none.',
  schema: { type: 'string', example: 'bytes=0-1023' },
};

function requestBody(schema: z.ZodType): NonNullable<Operation['requestBody']> {
  const required = !schema.safeParse(undefined).success;
  return { required, content: { 'application/json': { schema: schemaOf(schema, 'input') } } };
}

function uploadBody(types: readonly string[]): NonNullable<Operation['requestBody']> {
  return { required: true, content: Object.fromEntries(types.map((type) => [type, {}])) };
}

function parameters(where: 'path' | 'query', schema: z.ZodObject | undefined): Parameter[] {
  return Object.entries(schema?.shape ?? {}).map(([name, field]) => {
    // The schema converts text from the URL to a value: the document describes the value.
    const { description, ...fieldSchema } = schemaOf(field, 'output');
    const required = where === 'path' || !field.safeParse(undefined).success;
    const text = typeof description === 'string' ? { description } : {};
    return { name, in: where, required: required && !isOptional(field), ...text, schema: fieldSchema };
  });
}

function isOptional(field: z.core.$ZodType): boolean {
  return field._zod.optin === 'optional';
}

const REASONS: Readonly<Record<string, string>> = {
  200: 'OK',
  201: 'Created',
  202: 'Accepted, not finished yet',
  206: 'The part that was asked for',
  503: 'Not ready',
};

function responses(route: Route): Operation['responses'] {
  const good = Object.entries(route.responses ?? {}).map(([status, schema]) => [
    status,
    { description: REASONS[status] ?? '', content: { 'application/json': { schema: schemaOf(schema, 'output') } } },
  ]);
  const statuses = route.ranges === true ? ['200', '206'] : ['200'];
  const raw = statuses.flatMap((status) =>
    route.content === undefined ? [] : [[status, { description: REASONS[status], content: { [route.content]: {} } }]],
  );
  const problem = {
    description: 'A problem',
    content: { [PROBLEM_TYPE]: { schema: { $ref: '#/components/schemas/Problem' } } },
  };
  return Object.fromEntries([...good, ...raw, ['default', problem]]);
}

function schemaOf(schema: z.core.$ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, {
    io,
    target: 'draft-2020-12',
    unrepresentable: 'any',
  });
  return rest;
}
