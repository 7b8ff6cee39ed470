"""Reviews over HTTP after the main job, and `hourz admin recompute-reputation` beside the running server."""

from harness import Person, gig, run


def completed(seeker, helper):
    one = seeker.post("/api/gigs", gig(), 201).json["id"]
    helper.post(f"/api/gigs/{one}/accept", None, 200)
    for status in ("IN_PROGRESS", "COMPLETED"):
        seeker.put(f"/api/gigs/{one}/status", {"status": status})
    return one


def test_both_review_and_the_scores_can_be_made_anew(server, base):
    def recompute():
        done = run("admin", "recompute-reputation", data_directory=server.directory)
        assert done.returncode == 0, done.stderr
        people, corrected = [int(word) for word in done.stdout.split() if word.isdigit()]
        assert people >= 2
        return corrected

    with Person(base, "Mali") as seeker, Person(base, "Somchai") as helper:
        one = completed(seeker, helper)
        assert seeker.get(f"/api/reviews/can-review/{one}").json["can_review"]
        review = seeker.post("/api/reviews", {"gig_id": one, "rating": 3, "comment": "ดี"}, 201)
        assert seeker.post("/api/reviews", {"gig_id": one, "rating": 3}, 409).json["code"] == "already_reviewed"
        helper.post("/api/reviews", {"gig_id": one, "rating": 5}, 201)
        assert helper.get("/api/users/me").json["reputation_score"] == 28 / 6
        assert recompute() == 0
        server.database().sql(f"UPDATE users SET reputation_score = 1, rating_sum = 1 WHERE id = '{helper.id}'")
        assert recompute() == 1
        assert recompute() == 0
        assert helper.get("/api/users/me").json["reputation_score"] == 28 / 6
        seeker.call("DELETE", review.headers["location"], status=204)
        me = helper.get("/api/users/me").json
        assert (me["reputation_score"], me["total_reviews"]) == (5, 0)
        told = seeker.get(f"/api/users/{seeker.id}/reputation").json
        assert told["reputation_score"] == told["computed_score"] == 5 and told["distribution"]["5"] == 1
