// Keeps the committed ABI and bytecode of the contracts equal to what their sources compile to,
// so that cargo needs neither Node nor a Solidity compiler.
//
//   forge's out/ -> artifacts/<Contract>.json         (write)
//   forge's out/ == artifacts/<Contract>.json, or fail (check)
//
// Contracts of src/ go to artifacts/, those of test/mocks/ (tokens that the tests deploy) to artifacts/test/.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [mode, project] = process.argv.slice(2);
if (!['write', 'check'].includes(mode) || !project) {
  console.error('usage: contract-artifacts.mjs write|check <foundry project>');
  process.exit(2);
}
const outputFolder = join(project, 'out');
const artifactFolder = join(project, 'artifacts');

const folderOf = (source) => {
  if (source?.startsWith('src/')) return '';
  return source?.startsWith('test/mocks/') ? 'test/' : undefined;
};

/** Every deployable contract of the project's own sources, as folder and name -> JSON text. */
function compiled() {
  const artifacts = new Map();
  for (const sourceName of readdirSync(outputFolder).sort()) {
    if (!sourceName.endsWith('.sol')) continue;
    for (const file of readdirSync(join(outputFolder, sourceName)).sort()) {
      const output = JSON.parse(readFileSync(join(outputFolder, sourceName, file), 'utf8'));
      const [source, name] = Object.entries(output.metadata?.settings?.compilationTarget ?? {})[0] ?? [];
      const folder = folderOf(source);
      // Libraries of internal functions and abstract contracts are no contracts of their own.
      const deployable = output.abi.some(({ type }) => type === 'function') && output.bytecode.object !== '0x';
      if (folder === undefined || !deployable) continue;
      if (artifacts.has(folder + name)) throw new Error(`two contracts are called ${name}`);
      artifacts.set(folder + name, artifactText(name, source, output));
    }
  }
  return artifacts;
}

function artifactText(contractName, sourceName, { abi, bytecode, deployedBytecode }) {
  const linked = [bytecode, deployedBytecode].every((code) => /^0x[0-9a-f]*$/.test(code.object));
  if (!linked) throw new Error(`${contractName} needs linking: make its libraries internal`);
  const artifact = {
    contractName,
    sourceName,
    abi,
    bytecode: bytecode.object,
    deployedBytecode: deployedBytecode.object,
  };
  return `${JSON.stringify(artifact, null, 1)}\n`;
}

const committedNames = () =>
  ['', 'test/']
    .filter((folder) => existsSync(join(artifactFolder, folder)))
    .flatMap((folder) => readdirSync(join(artifactFolder, folder)).map((file) => folder + file))
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -5));

function write(artifacts) {
  mkdirSync(join(artifactFolder, 'test'), { recursive: true });
  for (const name of committedNames()) {
    if (!artifacts.has(name)) rmSync(join(artifactFolder, `${name}.json`));
  }
  for (const [name, text] of artifacts) writeFileSync(join(artifactFolder, `${name}.json`), text);
  console.log(`wrote ${[...artifacts.keys()].join(', ')}`);
}

function check(artifacts) {
  const names = new Set([...artifacts.keys(), ...committedNames()]);
  const stale = [...names].filter((name) => {
    const path = join(artifactFolder, `${name}.json`);
    return !artifacts.has(name) || !existsSync(path) || readFileSync(path, 'utf8') !== artifacts.get(name);
  });
  if (stale.length > 0) {
    console.error(`not what the sources compile to: ${stale.join(', ')}; run make contracts`);
    process.exit(1);
  }
  console.log(`${names.size} artifacts agree with their sources`);
}

const artifacts = compiled();
if (artifacts.size === 0) throw new Error(`no contracts in ${outputFolder}: did forge build run?`);
(mode === 'write' ? write : check)(artifacts);
