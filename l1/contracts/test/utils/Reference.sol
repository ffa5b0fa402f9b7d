// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "../../src/interfaces/IRollup.sol";
import {Vm} from "./Test.sol";
import {Groth16Vectors} from "../vectors/Groth16Vectors.sol";

/// @title The protocol written a second time, as plainly as it is stated
/// @notice The whole vector d with its zeros, one power of z for each word, no assembly.
library Reference {
    uint256 internal constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 internal constant Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583;

    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    struct Circuit {
        uint256 l1Rows;
        uint256 txRows;
    }

    struct Parsed {
        uint256[] d;
        bytes32 dataHash;
        bytes payouts;
    }

    /// @dev The statement of a batch that the contract must arrive at.
    function stored(
        IRollup.Batch memory batch,
        Circuit memory circuit,
        uint64 number,
        uint256 domain,
        uint256 oldRoot,
        uint64 head
    ) internal view returns (IRollup.StoredBatch memory) {
        Parsed memory parsed = parse(batch, circuit, number, domain, oldRoot);
        uint256 z = challenge(parsed, batch);
        return IRollup.StoredBatch({
            number: number,
            circuitId: batch.circuitId,
            oldRoot: oldRoot,
            newRoot: batch.newRoot,
            commitment: batch.commitment,
            z: z,
            y: evaluate(parsed.d, z),
            queueHead: head + uint64(batch.l1Rows.length),
            payoutsHash: payoutsHash(parsed.payouts),
            timestamp: batch.timestamp,
            committedAt: uint64(VM.getBlockTimestamp()),
            beneficiary: batch.beneficiary
        });
    }

    function parse(IRollup.Batch memory batch, Circuit memory circuit, uint64 number, uint256 domain, uint256 oldRoot)
        internal
        pure
        returns (Parsed memory parsed)
    {
        uint256[] memory d = new uint256[](5 + 5 * circuit.l1Rows + circuit.txRows / 2 + 3 * circuit.txRows);
        d[0] = batch.circuitId + uint256(number) * 2 ** 16 + uint256(batch.timestamp) * 2 ** 80;
        d[1] = domain;
        d[2] = oldRoot;
        d[3] = batch.newRoot;
        d[4] = batch.feeLeaves;
        parsed.d = d;
        _l1Rows(parsed, batch);
        for (uint256 i = 0; i < batch.rows.length / 24; ++i) {
            d[5 + 5 * circuit.l1Rows + i] = number24(batch.rows, 24 * i, 24);
        }
        _extras(parsed, batch, 5 + 5 * circuit.l1Rows + circuit.txRows / 2);
    }

    function _l1Rows(Parsed memory parsed, IRollup.Batch memory batch) private pure {
        bytes memory words;
        for (uint256 j = 0; j < batch.l1Rows.length; ++j) {
            IRollup.Request memory q = batch.l1Rows[j].request;
            uint128 result = batch.l1Rows[j].result;
            bool isDeposit = q.kind == 1;
            uint256[5] memory w = [
                q.kind + (isDeposit ? result : q.index) * 2 ** 8 + uint256(q.token) * 2 ** 32,
                isDeposit ? q.amount : result,
                isDeposit ? q.owner : uint160(q.sender),
                q.ax,
                q.ay
            ];
            for (uint256 i = 0; i < 5; ++i) {
                parsed.d[5 + 5 * j + i] = w[i];
            }
            words = abi.encodePacked(words, w);
            if (isDeposit && result == 0) {
                parsed.payouts = abi.encodePacked(parsed.payouts, q.sender, q.token, q.amount);
            }
            if (!isDeposit && result != 0) {
                parsed.payouts = abi.encodePacked(parsed.payouts, q.sender, q.token, result);
            }
        }
        parsed.dataHash = keccak256(bytes.concat(keccak256(words), keccak256(batch.rows), keccak256(batch.extras)));
    }

    function _extras(Parsed memory parsed, IRollup.Batch memory batch, uint256 base) private pure {
        uint256 p = 0;
        while (p < batch.extras.length) {
            uint256 row = number24(batch.extras, p, 2);
            bool isWithdrawal = number24(batch.rows, 12 * row, 3) != 0 && number24(batch.rows, 12 * row + 3, 3) == 0;
            if (isWithdrawal) {
                uint256 receiver = number24(batch.extras, p + 2, 20);
                uint256 token = number24(batch.extras, p + 22, 4);
                uint256 amount = number24(batch.extras, p + 26, 16);
                parsed.d[base + 3 * row] = receiver;
                parsed.d[base + 3 * row + 1] = token;
                parsed.d[base + 3 * row + 2] = amount;
                parsed.payouts =
                    abi.encodePacked(parsed.payouts, address(uint160(receiver)), uint32(token), uint128(amount));
                p += 42;
            } else {
                parsed.d[base + 3 * row] = number24(batch.extras, p + 2, 32);
                p += 34;
            }
        }
    }

    /// @dev The big-endian number in `length` bytes.
    function number24(bytes memory data, uint256 offset, uint256 length) internal pure returns (uint256 value) {
        for (uint256 i = 0; i < length; ++i) {
            value = value * 256 + uint8(data[offset + i]);
        }
    }

    function challenge(Parsed memory p, IRollup.Batch memory batch) internal pure returns (uint256) {
        return uint256(
            keccak256(
            abi.encode(batch.commitment, p.dataHash, p.d[0], p.d[1], p.d[2], p.d[3], p.d[4], batch.beneficiary)
        )
        ) % R;
    }

    function evaluate(uint256[] memory d, uint256 z) internal pure returns (uint256 y) {
        uint256 power = 1;
        for (uint256 i = 0; i < d.length; ++i) {
            y = addmod(y, mulmod(d[i], power, R), R);
            power = mulmod(power, z, R);
        }
    }

    // ------------------------------------------------------------------------------------------------ payouts

    function chunkCount(bytes memory payouts) internal pure returns (uint256) {
        return (payouts.length + 1279) / 1280;
    }

    function chunk(bytes memory payouts, uint256 i) internal pure returns (bytes memory part) {
        uint256 length = payouts.length - 1280 * i;
        if (length > 1280) length = 1280;
        part = new bytes(length);
        for (uint256 j = 0; j < length; ++j) {
            part[j] = payouts[1280 * i + j];
        }
    }

    function chunkHashes(bytes memory payouts) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](chunkCount(payouts));
        for (uint256 i = 0; i < hashes.length; ++i) {
            hashes[i] = keccak256(chunk(payouts, i));
        }
    }

    function payoutsHash(bytes memory payouts) internal pure returns (bytes32) {
        return payouts.length == 0 ? bytes32(0) : keccak256(abi.encodePacked(chunkHashes(payouts)));
    }

    // ------------------------------------------------------------------------------------------------ proofs

    /// @dev A true proof of any statement, from the key's trapdoor: A = a·G, B = β·H, and C as the equation wants it.
    function prove(uint256 c, uint256 z, uint256 y, uint256 salt) internal view returns (IRollup.Proof memory proof) {
        uint256 a = uint256(keccak256(abi.encode(c, z, y, salt))) % R;
        uint256 x = Groth16Vectors.IC0;
        x = addmod(x, mulmod(Groth16Vectors.IC1, c, R), R);
        x = addmod(x, mulmod(Groth16Vectors.IC2, z, R), R);
        x = addmod(x, mulmod(Groth16Vectors.IC3, y, R), R);
        uint256 rest = mulmod(addmod(a, R - Groth16Vectors.ALPHA, R), Groth16Vectors.BETA, R);
        rest = addmod(rest, R - mulmod(x, Groth16Vectors.GAMMA, R), R);
        proof.a = multiply([uint256(1), 2], a);
        proof.b = Groth16Vectors.trapdoorKey().beta;
        proof.c = multiply([uint256(1), 2], mulmod(rest, inverse(Groth16Vectors.DELTA), R));
    }

    function multiply(uint256[2] memory point, uint256 scalar) internal view returns (uint256[2] memory result) {
        (bool ok, bytes memory data) = address(7).staticcall(abi.encode(point, scalar));
        require(ok, "multiplication");
        result = abi.decode(data, (uint256[2]));
    }

    function add(uint256[2] memory p, uint256[2] memory q) internal view returns (uint256[2] memory result) {
        (bool ok, bytes memory data) = address(6).staticcall(abi.encode(p, q));
        require(ok, "addition");
        result = abi.decode(data, (uint256[2]));
    }

    function inverse(uint256 value) internal view returns (uint256) {
        (bool ok, bytes memory data) = address(5).staticcall(abi.encode(32, 32, 32, value, R - 2, R));
        require(ok, "inverse");
        return abi.decode(data, (uint256));
    }
}
