// Payment channels by an independent client (channels.mjs, from docs/channels.md alone) against the real contract on anvil:
// open, sign, verify, submit, challenge, reveal, settle, cooperate, and the payouts to the wei.
import assert from 'node:assert/strict';
import { readFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createPublicClient, createTestClient, createWalletClient, http, keccak256, toHex } from 'viem';
import { mnemonicToAccount, privateKeyToAccount } from 'viem/accounts';
import { foundry } from 'viem/chains';
import { ChannelClient, ZERO_HALF, balanceA, hashOf, listRoot, merge, packList } from './channels.mjs';
import { Daemon } from './processes.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const ANVIL = process.env.MILLRACE_ANVIL ?? join(ROOT, 'node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil');
const MNEMONIC = 'test test test test test test test test test test test junk';
const ETHER = 10n ** 18n;
const WINDOW = 3600;
const ETH = `0x${'00'.repeat(20)}`;

const json = async (path) => JSON.parse(await readFile(join(ROOT, path), 'utf8'));
let folder, anvil, l1, clock, contract, wallets;
let salt = 0n;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-channels-'));
  const args = ['--port', '0', '--hardfork', 'osaka', '--enable-tx-gas-limit'];
  anvil = new Daemon('anvil', ANVIL, args, { log: join(folder, 'anvil.log') });
  const bound = await anvil.announces((line) => line.match(/^Listening on (\S+)/)?.[1]);
  const to = { chain: foundry, transport: http(`http://${bound}`), pollingInterval: 50 };
  l1 = createPublicClient(to);
  clock = createTestClient({ ...to, mode: 'anvil' });
  wallets = [0, 1, 2].map((addressIndex) => createWalletClient({ ...to, account: mnemonicToAccount(MNEMONIC, { addressIndex }) }));
  const { abi, bytecode } = await json('l1/contracts/artifacts/Channels.json');
  const hash = await wallets[2].deployContract({ abi, bytecode });
  const { contractAddress: address } = await l1.waitForTransactionReceipt({ hash });
  contract = { l1, abi, address, chainId: foundry.id };
});

after(async () => {
  await anvil?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Payout addresses that own nothing yet. */
const cold = (name) => privateKeyToAccount(keccak256(toHex(`${name} ${salt}`))).address;

/** A channel with 3 and 2 ether. */
async function open() {
  salt += 1n;
  const [a, b] = wallets;
  const client = new ChannelClient(contract, {
    signerA: a.account.address, payoutA: cold('a'), signerB: b.account.address, payoutB: cold('b'), token: ETH, window: WINDOW, salt,
  });
  await client.deposit(a, false, 3n * ETHER);
  await client.deposit(b, true, 2n * ETHER);
  return client;
}

const both = (client, typed) => Promise.all(wallets.slice(0, 2).map((wallet) => wallet.account.signTypedData(typed)));
const balanceOf = (address) => l1.getBalance({ address });
const now = async () => (await l1.getBlock()).timestamp;
const half = (version, paid, locks = []) => ({ version, paid, locks: listRoot(locks) });

async function pass(time) {
  await clock.setNextBlockTimestamp({ timestamp: time });
  await clock.mine({ blocks: 1 });
}

/** The promise fails with this error of the contract. */
const reverts = (promise, name) => assert.rejects(promise, (error) => {
  assert.match(`${error.shortMessage} ${error.message}`, new RegExp(name));
  return true;
});

test('ids, roots and digests are those of the vectors and of the contract', async () => {
  const vectors = await json('channels/vectors/eip712.json');
  const { domains, channels, snapshots, coops, closes, lists } = vectors;
  assert.ok(snapshots.length > 0 && coops.length > 0 && closes.length > 0 && lists.length > 0);
  const clients = channels.map(({ domain, id, window, salt: number, ...params }) => {
    const { chainId, verifyingContract: address } = domains[domain];
    const numbers = { window: Number(window), salt: BigInt(number) };
    const client = new ChannelClient({ address, chainId: BigInt(chainId) }, { ...params, ...numbers });
    assert.equal(client.separator, domains[domain].separator);
    assert.equal(client.id, id);
    return client;
  });
  const listOf = ({ locks }) => locks.map(({ hash, amount, expiry }) => ({ hash, amount: BigInt(amount), expiry: BigInt(expiry) }));
  for (const list of lists) {
    assert.equal(packList(listOf(list)), list.packed);
    assert.equal(listRoot(listOf(list)), list.root);
  }
  const signed = async (client, { digest, signatureA, signatureB }, typed) => {
    assert.equal(client.digest(typed), digest);
    if (signatureA) assert.ok(await client.isSignedBy(typed, signatureA, client.params.signerA));
    if (signatureB) assert.ok(await client.isSignedBy(typed, signatureB, client.params.signerB));
    if (signatureA) assert.ok(!(await client.isSignedBy(typed, signatureA, client.params.signerB)));
  };
  const big = (value, names) => Object.fromEntries(names.map((name) => [name, BigInt(value[name])]));
  for (const vector of snapshots) {
    const client = clients[vector.channel];
    const fields = big(vector, ['versionA', 'paidA', 'versionB', 'paidB']);
    const halves = {
      a: { version: fields.versionA, paid: fields.paidA, locks: vector.locksA },
      b: { version: fields.versionB, paid: fields.paidB, locks: vector.locksB },
    };
    await signed(client, vector, client.snapshot(halves));
  }
  for (const vector of coops) {
    const { payA, payB, validUntil } = big(vector, ['payA', 'payB', 'validUntil']);
    const client = clients[vector.channel];
    await signed(client, vector, client.coop(Number(vector.epoch), payA, payB, validUntil));
  }
  for (const vector of closes) {
    const client = clients[vector.channel];
    await signed(client, vector, client.close(BigInt(vector.validUntil)));
  }
  const client = await open();
  const halves = { a: half(1n, 5n), b: half(2n, 7n) };
  assert.equal(await client.read('channelId', client.params), client.id);
  assert.equal(await client.read('DOMAIN_SEPARATOR'), client.separator);
  assert.equal(await client.read('snapshotDigest', client.id, halves), client.digest(client.snapshot(halves)));
  assert.equal(await client.read('coopDigest', client.id, 0, 1n, 2n, 3n), client.digest(client.coop(0, 1n, 2n, 3n)));
  assert.equal(await client.read('closeDigest', client.id, 9n), client.digest(client.close(9n)));
});

test('a dispute ends with the newest halves, the revealed lock paid and the other one back', async () => {
  const client = await open();
  const [a, b, stranger] = wallets;
  const preimage = keccak256(toHex('preimage'));
  const expiry = (await now()) + 600n;
  const won = { hash: hashOf(preimage), amount: ETHER / 2n, expiry };
  const lost = { hash: hashOf(keccak256(toHex('nobody'))), amount: ETHER / 4n, expiry };
  // Two snapshots, each newest in one half: neither alone is the truth.
  const old = { a: half(1n, ETHER / 10n), b: half(5n, ETHER / 5n) };
  const newer = { a: half(2n, ETHER / 3n, [won, lost]), b: half(3n, ETHER / 7n) };
  const [oldA, oldB] = await both(client, client.snapshot(old));
  const [newA, newB] = await both(client, client.snapshot(newer));
  assert.ok(await client.isSignedBy(client.snapshot(newer), newA, client.params.signerA));
  assert.ok(!(await client.isSignedBy(client.snapshot(old), newA, client.params.signerA)));
  await reverts(client.submit(stranger, old, [], [], oldA, oldB), 'NotAuthorisedToClose');
  await reverts(client.submit(a, old, [], [], oldA, newB), 'SignatureInvalid');
  await client.submit(a, old, [], [], '0x', oldB);
  await reverts(client.submit(b, old, [], [], oldA, oldB), 'NothingNewer');
  await reverts(client.submit(b, newer, [won], [], newA, newB), 'ListMismatch');
  await client.submit(stranger, newer, [won, lost], [], newA, newB);
  const { deadline, halves } = await client.read('dispute', client.id);
  assert.deepEqual(halves, merge(old, newer));
  assert.equal(halves.b.version, 5n);
  await client.reveal(stranger, [preimage]);
  await reverts(client.settle(stranger, [won, lost], []), 'DeadlineNotPassed');
  await pass(deadline);
  await reverts(client.submit(b, newer, [won, lost], [], newA, newB), 'DeadlinePassed');
  await reverts(client.settle(stranger, [won], []), 'ListMismatch');
  await client.settle(stranger, [won, lost], []);
  const toA = balanceA({ netA: 3n * ETHER }, halves, [won, lost], [], (lock) => lock === won);
  assert.equal(await balanceOf(client.params.payoutA), toA);
  assert.equal(await balanceOf(client.params.payoutB), 5n * ETHER - toA);
  assert.equal((await client.read('channel', client.id)).phase, 3);
  await reverts(client.deposit(a, false, 1n), 'ChannelClosed');
});

test('a deposit is safe before the first message, and a stranger can close with a signature', async () => {
  const client = await open();
  const until = (await now()) + 1000n;
  const signature = await wallets[1].account.signTypedData(client.close(until));
  const zero = { a: ZERO_HALF, b: ZERO_HALF };
  await client.submit(wallets[2], zero, [], [], '0x', '0x', until, signature);
  await pass((await client.read('dispute', client.id)).deadline);
  await client.settle(wallets[2], [], []);
  assert.equal(await balanceOf(client.params.payoutA), 3n * ETHER);
  assert.equal(await balanceOf(client.params.payoutB), 2n * ETHER);
});

test('a cooperative payout works once, and the one that empties the pot closes for good', async () => {
  const client = await open();
  const [a, , stranger] = wallets;
  const until = (await now()) + 1000n;
  const [sigA, sigB] = await both(client, client.coop(0, ETHER, 0n, until));
  await client.cooperate(stranger, ETHER, 0n, until, sigA, sigB);
  assert.equal(await balanceOf(client.params.payoutA), ETHER);
  await reverts(client.cooperate(stranger, ETHER, 0n, until, sigA, sigB), 'SignatureInvalid');
  const last = await both(client, client.coop(1, 3n * ETHER, ETHER, until));
  await client.cooperate(a, 3n * ETHER, ETHER, until, '0x', last[1]);
  assert.equal(await balanceOf(client.params.payoutA), 4n * ETHER);
  assert.equal(await balanceOf(client.params.payoutB), ETHER);
  assert.equal((await client.read('channel', client.id)).phase, 3);
});
