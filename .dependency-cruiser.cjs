/**
 * Who may import what: one entry a folder. Types are free at run time, so a folder may know more types than values.
 * `values` and `types` are folders (or files) of this repository; `packages` are npm packages beyond the utility
 * libraries; `lazy` folders may be loaded with `import()` only. The same table for readers: docs/architecture.md.
 * Each rule has a tree under test/boundary/fixtures/ on which it must fire.
 */
const { builtinModules } = require('node:module');

const ADAPTERS = ['domain', 'contracts', 'concurrency', 'linux'];
const SOURCES = [
  ...['domain', 'ports', 'contracts', 'concurrency', 'linux', 'workflows', 'activities', 'rootfs', 'vmm', 'sources'],
  ...['inspection', 'store', 'host', 'client', 'gateway', 'cli', 'config', 'temporal', 'workers'],
];

const TABLE = {
  domain: { values: [], pure: true },
  ports: { values: [], types: ['domain', 'contracts', 'node:'], pure: true },
  contracts: { values: ['domain'], node: false },
  concurrency: { values: [] },
  linux: { values: ['domain'], types: ['contracts'] },
  workflows: {
    values: ['domain'],
    types: ['activities', 'ports'],
    packages: ['@temporalio/(workflow|common)'],
    pure: true,
  },
  activities: {
    values: ['domain', 'contracts', 'concurrency'],
    types: ['ports'],
    packages: ['@temporalio/(activity|common)'],
  },
  rootfs: { values: ADAPTERS, types: ['ports'] },
  vmm: { values: ADAPTERS, types: ['ports'] },
  sources: { values: ADAPTERS, types: ['ports'] },
  inspection: { values: [...ADAPTERS, 'sources'], types: ['ports'] },
  store: { values: ADAPTERS, types: ['ports'], packages: ['@aws-sdk', '@smithy'] },
  host: {
    values: [...ADAPTERS, 'rootfs', 'vmm', 'store', 'sources', 'inspection'],
    types: ['ports'],
    packages: ['@?fastify'],
  },
  client: {
    // `store` and its package for client/store alone: see the rule below.
    values: ['contracts', 'domain', 'concurrency', 'workflows/messages', 'workflows/session/session-messages', 'store'],
    types: ['workflows', 'ports'],
    packages: ['@temporalio/(client|common)', '@aws-sdk'],
  },
  gateway: {
    values: ['client', 'store', 'sources', 'contracts', 'domain', 'concurrency', 'config'],
    types: ['ports'],
    packages: ['@?fastify'],
  },
  cli: {
    values: ['client', 'sources', 'inspection', 'contracts', 'domain', 'linux', 'config'],
    lazy: ['workers', 'temporal', 'gateway', 'rootfs'],
    packages: ['commander'],
  },
  config: { values: ['domain', 'contracts'] },
  temporal: { values: ['domain', 'contracts', 'config'], packages: ['@temporalio'] },
  workers: {
    values: SOURCES.filter((folder) => folder !== 'cli'),
    packages: ['@temporalio', '@?fastify'],
  },
  // What measures and what tests is imported by nothing else; both start stacks by the same helpers.
  bench: { values: [...SOURCES, 'test/support'], packages: ['.*'] },
  chaos: { values: [...SOURCES, 'test/support'], packages: ['.*'] },
  scripts: { values: ['config'], packages: ['@aws-sdk'] },
  'test/support': { values: [...SOURCES, 'scripts'], packages: ['.*'] },
  test: { values: [...SOURCES, 'bench', 'chaos', 'scripts'], packages: ['.*'], files: '^test/(?!support/)' },
};

/** Packages that stand for a whole subsystem. Everything else on npm counts as logging, metrics or utility. */
const PLATFORM_PACKAGES = ['@temporalio', '@aws-sdk', '@smithy', 'fastify', '@fastify', 'commander'];

const NODE = [`^(node:)?(${builtinModules.map((name) => name.replace('/', '\\/')).join('|')})$`];
const UTILITIES = [`node_modules/(?!(${PLATFORM_PACKAGES.join('|')})/)`];

/** `node:` stands for what Node brings along. */
const under = (place) => (place === 'node:' ? NODE : [`^${place}(/|\\.ts$)`]);
const inPackage = (name) => `node_modules/${name}/`;

/** Everything that files of `folder` may import as a value. */
function allowedValues(folder, { values, packages = [], node = true, pure = false }) {
  return [
    ...under(folder),
    ...values.flatMap(under),
    ...packages.map(inPackage),
    ...(pure ? [] : UTILITIES),
    ...(pure || !node ? [] : NODE),
  ];
}

/** The rules of one folder: what it imports as values (at once, or lazily where it may), and what as types. */
function rulesOf(folder) {
  const row = TABLE[folder];
  const from = { path: row.files ?? `^${folder}/` };
  const values = allowedValues(folder, row);
  const lazy = [...values, ...(row.lazy ?? []).flatMap(under)];
  const types = [...lazy, ...(row.types ?? []).flatMap(under)];
  const comment = `${folder}/ may import ${row.values.join(', ') || 'nothing'}: see the table in .dependency-cruiser.cjs`;
  const rule = (kind, to) => ({ name: `${folder.replace('/', '-')}-${kind}`, severity: 'error', comment, from, to });
  const value = { dependencyTypesNot: ['type-only'] };
  return [
    ...(row.lazy
      ? [
          rule('values', { ...value, pathNot: values, dynamic: false }),
          rule('lazy', { ...value, pathNot: lazy, dynamic: true }),
        ]
      : [rule('values', { ...value, pathNot: values })]),
    rule('types', { pathNot: types, dependencyTypes: ['type-only'] }),
  ];
}

module.exports = {
  forbidden: [
    ...Object.keys(TABLE).flatMap(rulesOf),
    {
      name: 'ports-are-types',
      severity: 'error',
      comment: 'ports/ holds interfaces only: import them with `import type`.',
      from: {},
      to: { path: '^ports/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'http-client-without-temporal',
      severity: 'error',
      comment: 'client/http is for programs that know only the REST API.',
      from: { path: '^client/http(/|\\.ts$)' },
      to: { path: ['^workflows/', '^client/(temporal|store|connect|index)(/|\\.ts$)', inPackage('@temporalio')] },
    },
    {
      name: 'object-store-in-client-store-alone',
      severity: 'error',
      comment: 'client/store alone knows the object store: whoever has no need of it installs no AWS SDK.',
      from: { path: '^client/', pathNot: '^client/store/' },
      to: { path: ['^store/', inPackage('@aws-sdk')] },
    },
    {
      name: 'no-circular',
      severity: 'error',
      comment: 'Two files that need each other are one file, or need a third.',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-unresolved',
      severity: 'error',
      comment: 'Imports a package or file that is not there (or not in package.json).',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(fixtures|dist)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['node', 'import', 'types', 'default'] },
  },
};
