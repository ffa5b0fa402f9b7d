// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {Groth16Vectors} from "./vectors/Groth16Vectors.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @title What a deployment fixes, refuses, and does not have
contract DeploymentTest is RollupTest {
    function _refuse(IRollup.Config memory c, bytes memory reason) private {
        bytes memory code = creationCode(c);
        vm.expectRevert(reason);
        create(code);
    }

    function test_a_deployment_keeps_its_config() public view {
        vm.assertEq(rollup.operator(), OPERATOR);
        vm.assertEq(rollup.ceremony(), keccak256("transcript"));
        vm.assertEq(rollup.requestFeeBase(), FEE);
        vm.assertEq(rollup.requestFee(), FEE);
        vm.assertEq(rollup.requestSpacing(), SPACING);
        (uint16 l1Rows, uint16 txRows, address key) = rollup.circuit(LARGE);
        vm.assertEq(l1Rows, 64);
        vm.assertEq(txRows, 2048);
        vm.assertEq(key.code.length, 705);
        vm.assertEq(uint8(key.code[0]), 0);
        (l1Rows, txRows, key) = rollup.circuit(77);
        vm.assertEq(key, address(0));
        (l1Rows, txRows, key) = rollup.circuit(0);
        vm.assertEq(key, address(0));
        vm.assertEq(rollup.tokenCount(), 1);
    }

    function test_a_deployment_refuses_bad_configs() public {
        IRollup.Config memory c = config();
        c.operator = address(0);
        _refuse(c, abi.encodeWithSelector(IRollup.OperatorIsZero.selector));
        c = config();
        c.requestSpacing = 601;
        _refuse(c, abi.encodeWithSelector(IRollup.RequestSpacing.selector, 600, 601));
        c = config();
        c.circuits = new IRollup.Circuit[](0);
        _refuse(c, abi.encodeWithSelector(IRollup.CircuitCount.selector, 0));
        c.circuits = new IRollup.Circuit[](5);
        _refuse(c, abi.encodeWithSelector(IRollup.CircuitCount.selector, 5));
        c = config();
        c.circuits[1].id = SMALL;
        _refuse(c, abi.encodeWithSelector(IRollup.CircuitIdTaken.selector, SMALL));
        for (uint256 i = 0; i < 4; ++i) {
            c = config();
            IRollup.Circuit memory bad = c.circuits[1];
            if (i == 0) bad.id = 0;
            if (i == 1) bad.l1Rows = 0;
            if (i == 2) bad.txRows = 0;
            if (i == 3) bad.txRows = 7;
            _refuse(c, abi.encodeWithSelector(IRollup.CircuitSize.selector, bad.id, bad.l1Rows, bad.txRows));
        }
        c = config();
        c.circuits[1].key.delta = c.circuits[1].key.gamma;
        _refuse(c, abi.encodeWithSelector(IRollup.KeyInsecure.selector, LARGE));
        c = config();
        c.circuits[0].key.ic = new uint256[2][](3);
        _refuse(c, abi.encodeWithSelector(IRollup.KeyInputs.selector, SMALL, 4, 3));
    }

    function test_a_deployment_takes_four_circuits_and_each_has_its_key() public {
        IRollup.Config memory c = config();
        c.circuits = new IRollup.Circuit[](4);
        for (uint16 i = 0; i < 4; ++i) {
            c.circuits[i] = IRollup.Circuit(10 + i, 1 + i, 2 + 2 * i, Groth16Vectors.trapdoorKey());
        }
        c.circuits[2].key = Groth16Vectors.snarkjsKey();
        rollup = deploy(c);
        bytes32[4] memory codes;
        for (uint16 i = 0; i < 4; ++i) {
            (uint16 l1Rows, uint16 txRows, address key) = rollup.circuit(10 + i);
            vm.assertEq(l1Rows, 1 + i);
            vm.assertEq(txRows, 2 + 2 * i);
            codes[i] = keccak256(key.code);
        }
        vm.assertEq(codes[0], codes[1]);
        vm.assertEq(codes[0], codes[3]);
        vm.assertTrue(codes[0] != codes[2]);
    }

    /// @dev No owner, no upgrade, no pause: the whole surface, by name. A new function must be added here with a reason.
    function test_nobody_has_power_over_funds() public view {
        string memory json = vm.readFile("out/Rollup.sol/Rollup.json");
        string[] memory functions = vm.parseJsonKeys(json, ".methodIdentifiers");
        uint256 writing = 0;
        for (uint256 i = 0; i < functions.length; ++i) {
            bytes32 name = keccak256(bytes(_beforeParenthesis(functions[i])));
            if (_isOneOf(name, _writing())) ++writing;
            else vm.assertTrue(_isOneOf(name, _reading()), functions[i]);
        }
        vm.assertEq(writing, 13);
    }

    /// @dev Who may call: anyone but for the two commits. Each function says itself what it takes and where money goes.
    function _writing() private pure returns (string[] memory names) {
        names = new string[](13);
        names[0] = "registerToken"; // gives a number
        names[1] = "deposit"; // takes from its sender
        names[2] = "requestExit"; // for its sender's own address
        names[3] = "commitBatch"; // the operator; moves nothing
        names[4] = "proveBatches"; // what a proof says
        names[5] = "commitAndProve"; // the operator, or anyone in the open phase; what a proof says
        names[6] = "revertBatches"; // drops what is not proven
        names[7] = "payWithdrawals"; // to the receivers that a proof named
        names[8] = "claim"; // to the account itself
        names[9] = "claimTo"; // the account's own decision
        names[10] = "enterEscape"; // a request is overdue
        names[11] = "escapeExit"; // to the leaf's L1 address
        names[12] = "cancelDeposit"; // to the depositor
    }

    function _reading() private pure returns (string[] memory names) {
        names = new string[](32);
        string[32] memory list = [
            "status",
            "requestFee",
            "isOpenPhase",
            "requestHash",
            "requestCreated",
            "batchHash",
            "payoutsHash",
            "paidMask",
            "claimable",
            "outstanding",
            "feePot",
            "tokenCount",
            "tokenNumber",
            "tokenAddress",
            "hasExited",
            "circuit",
            "domain",
            "operator",
            "ceremony",
            "requestFeeBase",
            "requestSpacing",
            "LEAVES",
            "GENESIS_ROOT",
            "REQUEST_WINDOW",
            "PROOF_WINDOW",
            "OPEN_PHASE_AFTER",
            "MAX_TIMESTAMP_LAG",
            "MAX_UNPROVEN_BATCHES",
            "MAX_OUTSTANDING",
            "MAX_REQUEST_SPACING",
            "PAYMENT_GAS",
            ""
        ];
        for (uint256 i = 0; i < 32; ++i) {
            names[i] = list[i];
        }
    }

    function _isOneOf(bytes32 name, string[] memory names) private pure returns (bool) {
        for (uint256 i = 0; i < names.length; ++i) {
            if (keccak256(bytes(names[i])) == name) return true;
        }
        return false;
    }

    function _beforeParenthesis(string memory signature) private pure returns (string memory) {
        bytes memory text = bytes(signature);
        uint256 length = 0;
        while (text[length] != "(") ++length;
        bytes memory name = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            name[i] = text[i];
        }
        return string(name);
    }

    /// @dev Nothing in the code can replace it, run another's code in its place, or end it.
    function test_the_code_cannot_delegate_or_end() public view {
        bytes memory code = address(rollup).code;
        for (uint256 i = 0; i < code.length; ++i) {
            uint8 op = uint8(code[i]);
            vm.assertTrue(op != 0xf2, "CALLCODE");
            vm.assertTrue(op != 0xf4, "DELEGATECALL");
            vm.assertTrue(op != 0xff, "SELFDESTRUCT");
            vm.assertTrue(op != 0xf0, "CREATE");
            vm.assertTrue(op != 0xf5, "CREATE2");
            if (op >= 0x60 && op <= 0x7f) i += op - 0x5f;
        }
    }

    function test_ether_comes_in_with_deposits_and_fees_only() public {
        (bool ok,) = address(rollup).call{value: 1}("");
        vm.assertFalse(ok);
        (ok,) = address(rollup).call{value: 1}(abi.encodeCall(IRollup.claim, (0, ALICE)));
        vm.assertFalse(ok);
    }
}
