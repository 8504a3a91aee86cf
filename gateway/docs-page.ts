/** The API documentation for people: one page without scripts or outside resources, so that it works offline. */
import type { OpenApiDocument, Operation, Parameter } from './openapi.ts';

/** @returns HTML of an OpenAPI document. Pure. */
export function docsPage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = [...new Set(operations.flatMap(({ operation }) => operation.tags))];
  const sections = tags.map((tag) => {
    const mine = operations.filter(({ operation }) => operation.tags.includes(tag));
    return `<h2>${escaped(tag)}</h2>${mine.map((one) => operationHtml(one.method, one.path, one.operation)).join('')}`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(document.info.title)} API</title><style>${STYLE}</style></head><body>
<h1>${escaped(document.info.title)} API <small>${escaped(document.info.version)}</small></h1>
<p>${markdown(document.info.description)}</p>
<p>All but the open routes need <code>Authorization: Bearer &lt;token&gt;</code>; <code>kiln dev</code> writes the token to <code>.kiln/dev.json</code>.
The same as a document: <a href="/openapi.json">/openapi.json</a>.</p>
<pre>curl -H "Authorization: Bearer $KILN_TOKEN" -H 'Content-Type: application/json' \\
  -d '{"id":"hello-1","servicePath":"examples/hello-service"}' $KILN_API_URL/api/workloads</pre>
${sections.join('\n')}
</body></html>
`;
}

function operationHtml(method: string, path: string, operation: Operation): string {
  const parts = [
    operation.description === undefined ? '' : `<p>${markdown(operation.description)}</p>`,
    operation.parameters.length === 0 ? '' : `<table>${operation.parameters.map(parameterHtml).join('')}</table>`,
    operation.requestBody === undefined
      ? ''
      : schemaHtml('Body', Object.values(operation.requestBody.content)[0]?.schema),
    ...Object.entries(operation.responses).map(([status, response]) => {
      const [type, content] = Object.entries(response.content ?? {})[0] ?? ['', {}];
      return schemaHtml(`${status} ${response.description}: ${type}`, content.schema);
    }),
  ];
  const open = operation.security?.length === 0 ? ' <em>open</em>' : '';
  return `<details id="${escaped(operation.operationId)}"><summary><b class="${method}">${method}</b> <code>${escaped(path)}</code> ${escaped(operation.summary)}${open}</summary>${parts.join('')}</details>`;
}

function parameterHtml(parameter: Parameter): string {
  const cells = [parameter.name, parameter.in, parameter.required ? 'required' : 'optional'].map(
    (cell) => `<td>${escaped(cell)}</td>`,
  );
  return `<tr>${cells.join('')}<td>${markdown(parameter.description ?? '')}</td><td><code>${escaped(JSON.stringify(parameter.schema))}</code></td></tr>`;
}

function schemaHtml(title: string, schema: object | undefined): string {
  if (schema === undefined) return `<p>${escaped(title)}</p>`;
  return `<details><summary>${escaped(title)}</summary><pre>${escaped(JSON.stringify(schema, null, 2))}</pre></details>`;
}

/** Only the Markdown that our own texts use: code between back-quotes. */
function markdown(text: string): string {
  return escaped(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3;border-radius:4px}code{padding:0 .2em}pre{padding:.8em;overflow:auto}
details{border:1px solid #ddd;border-radius:6px;padding:.4em .8em;margin:.4em 0}summary{cursor:pointer}small{color:#666}
table{border-collapse:collapse}td{border-top:1px solid #ddd;padding:.2em .6em;vertical-align:top}
.GET{color:#06693a}.POST{color:#7a3d00}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#151515}code,pre{background:#242424}details,td{border-color:#444}a{color:#8ab4f8}.GET{color:#6fd39b}.POST{color:#f0b070}}`;
