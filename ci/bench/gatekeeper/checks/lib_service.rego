package lib.service

spec := input.review.object.spec

changed if object.get(input.review, ["oldObject", "spec"], {}) != spec

subject := sprintf("service %q", [object.get(input.review, "name", "")])
