//! What must not compile.

#[test]
fn no_repository_without_a_transaction() {
    // If you are here because this failed: a repository can be had without a tenant, or the compiler words its
    // refusal otherwise than before (then look at each new text, and accept it with TRYBUILD=overwrite).
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
