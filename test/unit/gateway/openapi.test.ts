import { expect, it } from 'vitest';
import { PATH_PARAMETER, type Route } from '../../../contracts/api/routes/route.ts';
import { ROUTES } from '../../../contracts/api/routes/route-table.ts';
import { docsPage } from '../../../gateway/docs-page.ts';
import { openApiDocument } from '../../../gateway/openapi.ts';

const document = openApiDocument('1.2.3');
const routes = Object.entries<Route>(ROUTES);

it('has exactly the operations of the route table, each with its parameters and statuses', () => {
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  expect(operations.map(({ operationId }) => operationId).sort()).toEqual(routes.map(([name]) => name).sort());
  for (const [name, route] of routes) {
    const path = route.path.replaceAll(PATH_PARAMETER, '{$2}');
    const operation = document.paths[path]?.[route.method.toLowerCase()];
    expect(operation?.operationId).toBe(name);
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
    expect(
      operation?.parameters.filter((parameter) => parameter.in === 'path').map((parameter) => parameter.name),
    ).toEqual(inPath);
    expect(
      operation?.parameters.filter((parameter) => parameter.in === 'query').map((parameter) => parameter.name),
    ).toEqual(Object.keys(route.query?.shape ?? {}));
    const raw = route.ranges === true ? ['200', '206'] : ['200'];
    const statuses = route.responses === undefined ? raw : Object.keys(route.responses);
    expect(Object.keys(operation?.responses ?? {})).toEqual([...statuses, 'default']);
    expect(operation?.requestBody !== undefined).toBe(route.body !== undefined || route.upload !== undefined);
  }
});

it('says which parts may be left out', () => {
  const list = document.paths['/api/workloads']?.['get'];
  expect(list?.parameters.every(({ required }) => !required)).toBe(true);
  expect(list?.parameters.find(({ name }) => name === 'limit')?.schema).toMatchObject({
    type: 'integer',
    default: 50,
    maximum: 200,
  });
  expect(document.paths['/api/workloads']?.['post']?.requestBody?.required).toBe(true);
  expect(document.paths['/api/workloads/{id}/stop']?.['post']?.requestBody?.required).toBe(false);
});

it('describes every body: no schema is empty', () => {
  for (const operation of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
    const contents = [
      operation.requestBody?.content,
      ...Object.values(operation.responses).map(({ content }) => content),
    ];
    const schemas = contents.flatMap((content) =>
      content?.['application/json']?.schema === undefined ? [] : [content['application/json'].schema],
    );
    for (const schema of schemas) expect(Object.keys(schema).length).toBeGreaterThan(1);
  }
});

it('asks for a token everywhere but on the open routes', () => {
  expect(document.security).toEqual([{ bearer: [] }]);
  const open = Object.values(document.paths)
    .flatMap((methods) => Object.values(methods))
    .filter(({ security }) => security?.length === 0);
  expect(open.map(({ operationId }) => operationId).sort()).toEqual(['docs', 'healthz', 'openapi', 'readyz']);
});

it('its page names every path, runs no script, and lets no text become markup', () => {
  const html = docsPage({ ...document, info: { ...document.info, title: '<script>x</script>' } });
  for (const path of Object.keys(document.paths)) expect(html).toContain(path);
  expect(html).not.toContain('<script');
});
