// SPDX-License-Identifier: MIT
// Generated from the verifying key; do not edit.
pragma solidity 0.8.37;

/// @title  Groth16 verifier for one circuit
/// @dev Circuit batch-1, identity 1e936d7de445b01454a0b3c711c2d4b4a43cd2c6febf3121471d9636d577f743,
///      key INSECURE-DEV-6c66f878df3415e88f90cbb7af76925e0fb99d17e807f9de32d00e899bb64610.
///      INSECURE-DEV: one party knows the secrets of this key and can forge proofs.
contract Batch1Verifier {
    /// @notice A public input is not below the scalar field's modulus: it would be a second name for a smaller one.
    error InputNotCanonical(uint256 position, uint256 value);
    /// @notice A coordinate is not canonical, or a point is not in its group.
    error InvalidPoint();
    /// @notice The proof does not prove these inputs.
    error InvalidProof();

    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    /// @notice Returns if the proof is valid and reverts otherwise.
    /// @param  proof  A, B with imaginary parts first, C
    /// @param  inputs public inputs
    function verify(uint256[8] calldata proof, uint256[3] calldata inputs) external view {
        uint256[2] memory sum = [uint256(0x0a1c5fc001e871bac05af1074c2d00113d618b897fe933248bb5d9f7378f85b2), uint256(0x05a8b07c2c02ad279db3728984a9a2c050d21d79bab435e85917dd6b34207231)];
        sum = _add(sum, _multiply([uint256(0x1fa1aaae5f1c731dea0180792fd7deb4258ba1967570f6ae90ee3278f035386e), uint256(0x09b4b6a6ee0164d8d1fcc9b70910075959ffb7a478fbc29c027c7048f10348fc)], inputs[0], 0));
        sum = _add(sum, _multiply([uint256(0x2fd6df828e3ffe6cfb409fe5727021ebfc0f05aefd333a47514819031868cef6), uint256(0x01ffcfc07d02181b08c0166ed28c9b5a89f3dbeeb24b39ea183b7b1ee5bf3508)], inputs[1], 1));
        sum = _add(sum, _multiply([uint256(0x07316e200bdae836bfff5f8e652f4d94e2e0a9afa04e958f79a68af61286f742), uint256(0x044e9dbf1c16361964b4fea12222fae49a53e5158699415acdb730ce60520f81)], inputs[2], 2));
        // e(A, B) · e(−alpha, beta) · e(sum, −gamma) · e(C, −delta) = 1
        uint256[24] memory pairs = [
            proof[0], proof[1], proof[2], proof[3], proof[4], proof[5],
            uint256(0x0f1ceb99d0d6c047805fe4810482088492eac9eb0ec74409189b9c169aa306d7), uint256(0x29743d8b939e9960a263c755540f1f4345237e47bcb2c0b8851e8bfd4021e84c), uint256(0x1d02d4cfff45e211dbc765be62b528e8f525e05ade17e84bc7019f63b7c2352a), uint256(0x0353458f4e5f8fb6ae2e0a17cd3cd9de7aff94775fa7f68f6102e2d892d31b36), uint256(0x171673f328d0064b113cf212e1559e885dd3f27e5e1fb5b8ac5500ce17842f25), uint256(0x1383d910738407166aae7f2fe5b4ad23035c157d2dcbc7d271de879fcdf651e4),
            sum[0], sum[1], uint256(0x054ac7640e0ad186d262df7eb75a10c707ed9e077141426271ff340c1c2bad4c), uint256(0x0b2fbcd21d33351fa7b808ae0c13231539775302c3aecd1b63882755d1faa1c8), uint256(0x2352f8bb0197f2571b7294d1a539b3450ad709aa0fc958ff5019ec5015e51677), uint256(0x06dd0f2fa6c02753af692690f9f9df31de566e8b71a1728b9d60698b1a7546d6),
            proof[6], proof[7], uint256(0x08440740042f31ccb86c8239b6aafa3b7e868080cfd07f0d052fe3d9f066990d), uint256(0x29fa5f9deed03de196e2a30a675fcda595e32f74645137899cb285b3f695906d), uint256(0x0fcc80f800e81bdf6d1b6a9247fc7efa1d2a74b3769a4d62e1c8d8d121d23268), uint256(0x2068a3d638d5b289b1de876e6691cc890007f26250839c827d97ed6e7e3a0971)
        ];
        uint256[1] memory result;
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 0x08, pairs, 0x300, result, 0x20)
        }
        if (!done) revert InvalidPoint();
        if (result[0] != 1) revert InvalidProof();
    }

    function _multiply(uint256[2] memory point, uint256 scalar, uint256 position)
        private
        view
        returns (uint256[2] memory product)
    {
        if (scalar >= R) revert InputNotCanonical(position, scalar);
        uint256[3] memory words = [point[0], point[1], scalar];
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 0x07, words, 0x60, product, 0x40)
        }
        if (!done) revert InvalidPoint();
    }

    function _add(uint256[2] memory a, uint256[2] memory b) private view returns (uint256[2] memory sum) {
        uint256[4] memory words = [a[0], a[1], b[0], b[1]];
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 0x06, words, 0x80, sum, 0x40)
        }
        if (!done) revert InvalidPoint();
    }
}
