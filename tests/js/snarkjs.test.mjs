// Our circuits in snarkjs' hands: it reads, proves, verifies and takes part in a ceremony, from files that we write.
//
// millrace export → r1cs, zkey, wtns, vkey → snarkjs;   snarkjs' .ptau → a ceremony of both programs → both verify it
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import * as snarkjs from 'snarkjs';

const binary = process.env.MILLRACE_BIN ?? 'millrace';
const circuit = 'chain-40';
const folder = mkdtempSync(join(tmpdir(), 'millrace-snarkjs-'));
const at = (name) => join(folder, name);
const keys = ['--keys-dir', at('keys')];

async function millrace(...words) {
    const { stdout } = await promisify(execFile)(binary, ['--json', ...words], { cwd: folder });
    return JSON.parse(stdout.trim().split('\n').at(-1));
}

// snarkjs needs somebody to tell that a witness is false.
const quiet = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, () => {}]));

const json = (name) => JSON.parse(readFileSync(at(name), 'utf8'));

before(async () => {
    for (const format of ['r1cs', 'zkey', 'wtns', 'vkey', 'sol']) {
        await millrace('export', '--circuit', circuit, '--format', format, '--output', at(`c.${format}`), ...keys);
    }
});

after(async () => {
    rmSync(folder, { recursive: true, force: true });
    // Its worker threads would keep the process alive.
    await globalThis.curve_bn128?.terminate();
});

test('snarkjs reads the constraints, and our witness satisfies them', async () => {
    const found = await snarkjs.r1cs.info(at('c.r1cs'));
    assert.equal(found.nConstraints, 43);
    assert.equal(found.nPubInputs + found.nOutputs, 3);
    assert.equal(found.curve.name, 'bn128');
    assert.equal(await snarkjs.wtns.check(at('c.r1cs'), at('c.wtns'), quiet), true);
    const other = readFileSync(at('c.wtns'));
    other[other.length - 1] ^= 1;
    writeFileSync(at('false.wtns'), other);
    assert.equal(await snarkjs.wtns.check(at('c.r1cs'), at('false.wtns'), quiet), false);
    const proving = ['prove', '--zkey', at('c.zkey'), '--r1cs', at('c.r1cs'), '--proof', at('checked.proof'), '--public', at('checked.public')];
    await millrace(...proving, '--wtns', at('c.wtns'));
    await assert.rejects(millrace(...proving, '--wtns', at('false.wtns')), /breaks constraint/);
});

test('snarkjs proves from our key and witness, and each verifies the other', async () => {
    const { proof, publicSignals } = await snarkjs.groth16.prove(at('c.zkey'), at('c.wtns'));
    assert.equal(await snarkjs.groth16.verify(json('c.vkey'), publicSignals, proof), true);
    writeFileSync(at('their.proof'), JSON.stringify(proof));
    writeFileSync(at('their.public'), JSON.stringify(publicSignals));
    const checked = await millrace('verify', '--proof', at('their.proof'), '--public', at('their.public'), '--key', at('c.vkey'));
    assert.equal(checked.valid, true);

    await millrace('prove', '--zkey', at('c.zkey'), '--wtns', at('c.wtns'), '--proof', at('our.proof'), '--public', at('our.public'));
    assert.deepEqual(json('our.public'), publicSignals);
    assert.equal(await snarkjs.groth16.verify(json('c.vkey'), json('our.public'), json('our.proof')), true);
    const other = [String(BigInt(publicSignals[0]) + 1n), ...publicSignals.slice(1)];
    assert.equal(await snarkjs.groth16.verify(json('c.vkey'), other, json('our.proof')), false);
});

test('both programs hold one ceremony, and each verifies all of it', async () => {
    const curve = await snarkjs.curves.getCurveFromName('bn128');
    await snarkjs.powersOfTau.newAccumulator(curve, 7, at('0.ptau'));
    await snarkjs.powersOfTau.contribute(at('0.ptau'), at('1.ptau'), 'one', 'entropy of a test');
    await snarkjs.powersOfTau.preparePhase2(at('1.ptau'), at('p.ptau'));
    const subject = ['--circuit', circuit, '--ptau', at('p.ptau')];

    // The first key is the same to the byte, whoever makes it.
    await millrace('ceremony', 'init', ...subject, '--output', at('0.zkey'));
    await snarkjs.zKey.newZKey(at('c.r1cs'), at('p.ptau'), at('theirs.zkey'));
    assert.deepEqual(readSections(at('0.zkey')), readSections(at('theirs.zkey')));

    const first = await millrace('ceremony', 'contribute', '--zkey', at('0.zkey'), '--output', at('1.zkey'), '--name', 'ours');
    await snarkjs.zKey.contribute(at('1.zkey'), at('2.zkey'), 'theirs', 'entropy of a test');
    await snarkjs.zKey.beacon(at('2.zkey'), at('3.zkey'), 'their beacon', '0102030405', 10);
    await millrace('ceremony', 'beacon', '--zkey', at('3.zkey'), '--output', at('4.zkey'), '--value', '0a0b0c', '--iterations', '10');

    assert.equal(await snarkjs.zKey.verifyFromR1cs(at('c.r1cs'), at('p.ptau'), at('4.zkey')), true);
    const verified = await millrace('ceremony', 'verify', ...subject, '--zkey', at('4.zkey'));
    assert.deepEqual(verified.contributions.map(({ name, beacon }) => [name, beacon]), [
        ['ours', false],
        ['theirs', false],
        ['their beacon', true],
        [null, true],
    ]);
    assert.equal(verified.contributions[0].hash, first.hash);

    const kept = await millrace('ceremony', 'export', ...subject, '--zkey', at('4.zkey'), ...keys);
    assert.match(kept.key, /^ceremony-[0-9a-f]{64}$/);
    const imported = await millrace('setup', '--import', kept.file, '--expect', kept.key, '--keys-dir', at('others'));
    assert.equal(imported.key, kept.key);
    await assert.rejects(millrace('setup', '--import', kept.file, '--keys-dir', at('others')), /--expect/);

    // A key of another ceremony's δ is refused by both.
    const forged = readFileSync(at('4.zkey'));
    const [l] = sections(forged).filter(({ id }) => id === 8);
    const [of3] = sections(readFileSync(at('3.zkey'))).filter(({ id }) => id === 8);
    readFileSync(at('3.zkey')).copy(forged, l.start, of3.start, of3.start + of3.length);
    writeFileSync(at('forged.zkey'), forged);
    assert.equal(await snarkjs.zKey.verifyFromR1cs(at('c.r1cs'), at('p.ptau'), at('forged.zkey')), false);
    await assert.rejects(millrace('ceremony', 'verify', ...subject, '--zkey', at('forged.zkey')), /points of L/);

    const { proof, publicSignals } = await snarkjs.groth16.prove(at('4.zkey'), at('c.wtns'));
    const vkey = await snarkjs.zKey.exportVerificationKey(at('4.zkey'));
    assert.equal(await snarkjs.groth16.verify(vkey, publicSignals, proof), true);
});

function sections(bytes) {
    const found = [];
    for (let offset = 12; offset < bytes.length; ) {
        const [id, length] = [bytes.readUInt32LE(offset), Number(bytes.readBigUInt64LE(offset + 4))];
        found.push({ id, start: offset + 12, length });
        offset += 12 + length;
    }
    return found;
}

/** A file's sections by number: the order in the file is free. */
function readSections(path) {
    const bytes = readFileSync(path);
    const found = sections(bytes).map(({ id, start, length }) => [id, bytes.subarray(start, start + length).toString('hex')]);
    return Object.fromEntries(found);
}
