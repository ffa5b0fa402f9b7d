// A world of its own for each test: a real anvil, a contract deployed by `millrace deploy`, a real `millrace node`, users with money.
//
//   temporary folder → anvil → operator's key and configuration → millrace deploy → millrace node → tokens, deposits
//   stop: node (SIGTERM, exit code 0) → anvil → folder removed
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createPublicClient, createWalletClient, http, maxUint256, parseEther, toHex } from 'viem';
import { mnemonicToAccount, privateKeyToAccount } from 'viem/accounts';
import { foundry } from 'viem/chains';
import { NodeClient } from './client.mjs';
import { Daemon, run, until } from './processes.mjs';
import { domainOf } from './protocol.mjs';
import { Wallet } from './wallet.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const ANVIL = process.env.MILLRACE_ANVIL ?? join(ROOT, 'node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil');
const MNEMONIC = 'test test test test test test test test test test test junk';
const POLLING = { pollingInterval: 50 };

const artifact = async (name) => JSON.parse(await readFile(join(ROOT, 'l1/contracts/artifacts', `${name}.json`), 'utf8'));

/** The rollup's ABI. */
export const ROLLUP = (await artifact('Rollup')).abi;
const TOKEN = await artifact('test/TestToken');

function binary() {
  const path = process.env.MILLRACE_BIN;
  assert.ok(path && existsSync(path), 'MILLRACE_BIN must name the millrace program: run scripts/js-tests.sh');
  return path;
}

export class World {
  /** Starts everything. `settings` are lines of TOML by section: {sequencer: [...], …}. */
  static async start({ roles = ['sequencer', 'prover'], settings = {}, blockSeconds, confirmations = 0 } = {}) {
    const world = new World();
    world.folder = await mkdtemp(join(tmpdir(), 'millrace-js-'));
    try {
      await world.#startAnvil(blockSeconds);
      await world.#deploy(roles, settings, confirmations);
      await world.startNode();
    } catch (error) {
      throw await world.#broken(error);
    }
    return world;
  }

  async #startAnvil(blockSeconds) {
    const args = ['--port', '0', '--hardfork', 'osaka', '--enable-tx-gas-limit'];
    if (blockSeconds) args.push('--block-time', `${blockSeconds}`);
    this.anvil = new Daemon('anvil', ANVIL, args, { log: join(this.folder, 'anvil.log') });
    const bound = await this.anvil.announces((line) => line.match(/^Listening on (\S+)/)?.[1]);
    this.l1Url = `http://${bound}`;
    this.l1 = createPublicClient({ chain: foundry, transport: http(this.l1Url), ...POLLING });
  }

  /** A viem wallet of development account `number`. Number 0 funds the operator and deploys tokens. */
  l1Wallet(number) {
    return this.#l1Client(mnemonicToAccount(MNEMONIC, { addressIndex: number }));
  }

  #l1Client(account) {
    return createWalletClient({ account, chain: foundry, transport: http(this.l1Url), ...POLLING });
  }

  async #deploy(roles, settings, confirmations) {
    const key = toHex(randomBytes(32));
    this.operatorL1 = this.#l1Client(privateKeyToAccount(key));
    const funding = { to: this.operatorL1.account.address, value: parseEther('100') };
    await this.mined(this.l1Wallet(0).sendTransaction(funding));
    await writeFile(join(this.folder, 'operator.key'), `${key}\n`, { mode: 0o600 });
    const sections = { ...settings, l1: [`urls = ["${this.l1Url}"]`, `confirmations = ${confirmations}`,
      `operator_key_file = "${join(this.folder, 'operator.key')}"`, ...(settings.l1 ?? [])] };
    await this.#configure(roles, sections);
    this.deployed = await this.cli('deploy');
    this.contract = this.deployed.contract;
    this.domain = domainOf(this.deployed.chain_id, this.contract);
    this.operator = this.wallet(this.operatorL1.account.address);
    sections.l1.push(`contract = "${this.contract}"`, `from_block = ${this.deployed.from_block}`);
    sections.sequencer = [`fee_owner = "${this.operator.address}"`, ...(settings.sequencer ?? [])];
    await this.#configure(roles, sections);
  }

  async #configure(roles, sections) {
    const lines = [`data_dir = "${join(this.folder, 'data')}"`, `roles = ${JSON.stringify(roles)}`];
    const api = ['listen = "127.0.0.1:0"', ...(sections.api ?? [])];
    for (const [section, content] of Object.entries({ ...sections, api })) lines.push(`[${section}]`, ...content);
    await writeFile(join(this.folder, 'millrace.toml'), `${lines.join('\n')}\n`);
  }

  /** Starts the node on the configuration that is there. */
  async startNode() {
    const args = ['node', '--json', '--config', join(this.folder, 'millrace.toml')];
    this.node = new Daemon('millrace node', binary(), args, { log: join(this.folder, 'node.log'), cwd: this.folder });
    const started = await this.node.announces((line) => (line.startsWith('{') ? JSON.parse(line) : undefined));
    assert.equal(started.contract, this.contract);
    this.api = new NodeClient(started.api);
    await until('the node is ready', async () => (await this.api.request('GET', '/readyz')).status === 200);
  }

  /** Runs a command of the program that must succeed; its JSON. */
  async cli(...args) {
    const { code, stdout, stderr } = await this.cliOutcome(...args);
    assert.equal(code, 0, `millrace ${args.join(' ')}: ${stderr}`);
    return JSON.parse(stdout.trim().split('\n').at(-1));
  }

  /** Runs a command of the program: {code, stdout, stderr}. */
  cliOutcome(...args) {
    const config = ['--json', '--config', join(this.folder, 'millrace.toml')];
    return run(binary(), [...args, ...config], { cwd: this.folder });
  }

  /** A new L2 key for this L1 address. */
  wallet(l1Address) {
    return new Wallet(randomBytes(32), l1Address, this.domain);
  }

  /** The receipt of an L1 transaction that must succeed. */
  async mined(sent) {
    const receipt = await this.l1.waitForTransactionReceipt({ hash: await sent });
    assert.equal(receipt.status, 'success');
    return receipt;
  }

  view(functionName, ...args) {
    return this.l1.readContract({ address: this.contract, abi: ROLLUP, functionName, args });
  }

  /** Deploys an ERC-20, registers it, and gives each of these L1 addresses `amount` of it; its address. */
  async token(amount, receivers) {
    const deployer = this.l1Wallet(0);
    const { contractAddress: token } = await this.mined(deployer.deployContract(TOKEN));
    const register = { address: this.contract, abi: ROLLUP, functionName: 'registerToken', args: [token] };
    const sent = [await deployer.writeContract(register)];
    for (const receiver of receivers) {
      sent.push(await deployer.writeContract({ address: token, abi: TOKEN.abi, functionName: 'mint', args: [receiver, amount] }));
    }
    await Promise.all(sent.map((hash) => this.mined(hash)));
    return token;
  }

  /** Allows the rollup to take an account's tokens. */
  approve(l1Wallet, token) {
    const args = [this.contract, maxUint256];
    return this.mined(l1Wallet.writeContract({ address: token, abi: TOKEN.abi, functionName: 'approve', args }));
  }

  tokenBalance(token, holder) {
    return this.l1.readContract({ address: token, abi: TOKEN.abi, functionName: 'balanceOf', args: [holder] });
  }

  /** Deposits from an L1 account for an owner; the receipt. Token 0 is ETH. */
  async deposit(l1Wallet, token, amount, owner) {
    const fee = await this.view('requestFee');
    const value = token === 0 ? amount + fee : fee;
    const call = { address: this.contract, abi: ROLLUP, functionName: 'deposit', args: [token, amount, owner], value };
    return this.mined(l1Wallet.writeContract(call));
  }

  /** Asks L1 to pay an account of the rollup out to this L1 account, whose key of the rollup is `key`. */
  async requestExit(l1Wallet, { index, token }, [ax, ay]) {
    const call = { address: this.contract, abi: ROLLUP, functionName: 'requestExit', args: [index, token, ax, ay] };
    return this.mined(l1Wallet.writeContract({ ...call, value: await this.view('requestFee') }));
  }

  /** Waits until an owner's account of a token holds `balance`. */
  credited(wallet, token, balance) {
    const look = async () => {
      const account = await this.api.account(wallet.address, token);
      return account?.balance === balance.toString() ? account : undefined;
    };
    return until(`a deposit of ${balance} is in a batch`, look);
  }

  /** Stops everything and removes every trace; the node must end cleanly. */
  async stop() {
    const node = await this.node.stop();
    const anvil = await this.anvil.stop();
    const tail = await this.#log('node');
    await rm(this.folder, { recursive: true, force: true });
    assert.deepEqual(node, { code: 0, signal: null }, `the node ends cleanly; its log ends:\n${tail}`);
    assert.ok(anvil.code === 0 || anvil.signal === 'SIGTERM', `anvil ended with ${JSON.stringify(anvil)}`);
    for (const { child } of [this.node, this.anvil]) assert.throws(() => process.kill(child.pid, 0), { code: 'ESRCH' });
    assert.ok(!existsSync(this.folder));
  }

  /** What to do when the test failed: end everything at once, and say what the node said. */
  async abandon() {
    const tail = await this.#log('node');
    for (const daemon of [this.node, this.anvil]) await daemon?.stop('SIGKILL');
    await rm(this.folder, { recursive: true, force: true });
    return tail;
  }

  async #broken(error) {
    error.message += `\nthe node's log ends:\n${await this.abandon()}`;
    return error;
  }

  async #log(name) {
    const text = await readFile(join(this.folder, `${name}.log`), 'utf8').catch(() => '');
    return text.split('\n').slice(-40).join('\n');
  }
}

/** Runs `test` in a world of its own, which leaves nothing behind whatever happens. */
export async function inWorld(options, test) {
  const world = await World.start(options);
  try {
    await test(world);
  } catch (error) {
    error.message += `\nthe node's log ends:\n${await world.abandon()}`;
    throw error;
  }
  await world.stop();
}
