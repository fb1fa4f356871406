//! What must not compile.

#[test]
fn nothing_is_dispatched_without_a_ticket() {
    // If you are here because this failed: either the compiler words its errors differently now (compare, then
    // accept with TRYBUILD=overwrite), or somebody can reach a model without being metered.
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
